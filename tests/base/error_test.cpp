// What is printed must not control a terminal.
#include "base/error.h"

#include <gtest/gtest.h>

namespace ft {
namespace {

TEST(Printable, KeepsTextAndEscapesWhatControlsATerminal) {
  EXPECT_EQ(printable("caf\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x8c\x8d"),
            "caf\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x8c\x8d");
  EXPECT_EQ(printable("a\x1b[31m\x07\x7f\n"), "a\\x1b[31m\\x07\\x7f\\x0a");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "\\xc2\\x9b31m");                                          // U+009B is ESC [ in one
  EXPECT_EQ(printable("\xf3(\x80\xc3"), "\\xf3(\\x80\\xc3");           // no UTF-8
  EXPECT_EQ(printable_lines("one\ntwo\r\x1b"), "one\ntwo\\x0d\\x1b");  // lines stay lines
  EXPECT_EQ(printable(std::string(300, 'a')), std::string(200, 'a') + "...");
  EXPECT_EQ(printable_lines(std::string(300, 'a')), std::string(300, 'a'));
}

}  // namespace
}  // namespace ft
