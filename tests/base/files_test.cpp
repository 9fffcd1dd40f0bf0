// Durable files: what is written is what stands there, and folders change in one step.
#include "base/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <set>

#include "base/error.h"

namespace ft {
namespace {

class Files : public testing::Test {
 protected:
  Files() : folder(fs::path(testing::TempDir()) / str("finetune-files-", ::getpid())) {
    fs::remove_all(folder);
    fs::create_directories(folder);
  }
  ~Files() override { fs::remove_all(folder); }
  fs::path folder;
};

TEST_F(Files, ChecksumDoesNotDependOnThePieces) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += std::to_string(i);
  Checksum whole;
  whole.add(text.data(), text.size());
  for (const size_t piece : {1, 3, 8, 13, 64}) {
    Checksum sum;
    for (size_t at = 0; at < text.size(); at += piece)
      sum.add(text.data() + at, std::min(piece, text.size() - at));
    EXPECT_EQ(sum.text(), whole.text()) << piece;
  }
  const Written written = write_file(folder / "a", text);
  EXPECT_EQ(written.checksum, whole.text());
  EXPECT_EQ(checksum(folder / "a"), whole.text());
  EXPECT_EQ(written.bytes, static_cast<int64_t>(text.size()));
}

TEST_F(Files, ChecksumSeesEveryBitAndTheLength) {
  const std::string text = "seventeen bytes..";
  std::set<std::string> sums;
  const auto enter = [&](const std::string& t) {
    Checksum sum;
    sum.add(t.data(), t.size());
    return sums.insert(sum.text()).second;
  };
  EXPECT_TRUE(enter(text));
  for (size_t i = 0; i < text.size(); ++i)
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = text;
      changed[i] = static_cast<char>(changed[i] ^ 1 << bit);
      EXPECT_TRUE(enter(changed)) << i << " " << bit;
    }
  EXPECT_TRUE(enter(text + std::string(1, '\0')));
  EXPECT_TRUE(enter(text.substr(0, 16)));
  EXPECT_TRUE(enter(""));
}

// Past the page cache or not: the whole blocks of a large file, its end, and what is appended to a
// file that ends within a block.
TEST_F(Files, OutputFilesKeepTheOrderOfSmallAndLargeWrites) {
  std::string expected;
  for (const int flags : {O_TRUNC, O_APPEND}) {
    OutputFile out(folder / "a", flags);
    const size_t before = expected.size();
    for (const size_t size : {1, 100, 300000, 7, 262144, 1000000, 2, 3145733, 1}) {
      std::string part(size, '\0');
      for (size_t i = 0; i < size; ++i) part[i] = static_cast<char>(i * 31 + size);
      out.write(part.data(), part.size());
      expected += part;
    }
    out.sync();
    const Written written = out.close();
    EXPECT_EQ(written.bytes, static_cast<int64_t>(expected.size() - before));
    if (flags == O_TRUNC) {
      EXPECT_EQ(written.checksum, checksum(folder / "a"));
    }
    EXPECT_TRUE(read_file(folder / "a") == expected);
  }
}

TEST_F(Files, AStagedFolderReplacesAnOlderOne) {
  for (const char* content : {"old", "new"}) {
    StagedFolder staged(folder / "best");
    write_file(staged.path() / "file", content);
    staged.commit();
  }
  EXPECT_EQ(read_file(folder / "best/file"), "new");
  EXPECT_EQ(list_folder(folder), std::vector<fs::path>{folder / "best"});
}

TEST_F(Files, AStagedFolderThatIsNotCommittedGoes) {
  make_folders(folder / "best");
  { const StagedFolder staged(folder / "best"); }
  EXPECT_EQ(list_folder(folder), std::vector<fs::path>{folder / "best"});
}

TEST_F(Files, WhatAKilledProcessLeftIsMended) {
  for (const char* name : {".a.staging", ".b.old", ".c.old", "c", ".lock-like", ".d"})
    make_folders(folder / name);
  write_file(folder / ".m.jsonl.new", "x");
  remove_staging(folder);
  EXPECT_EQ(list_folder(folder), (std::vector<fs::path>{folder / ".d", folder / ".lock-like",
                                                        folder / "b", folder / "c"}));
}

TEST_F(Files, ErrorsNameThePathAndTheReason) {
  write_file(folder / "file", "");
  const auto message = [](auto&& act) {
    try {
      act();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kOutput);
      return std::string(e.what());
    }
    return std::string();
  };
  const std::string place = (folder / "file/x").string();
  EXPECT_EQ(message([&] { write_file(place, "a"); }),
            place + ": cannot be opened for writing: Not a directory");
  EXPECT_EQ(message([&] { make_folders(place); }), place + ": cannot be created: Not a directory");
  EXPECT_EQ(message([&] { write_file("/dev/full", "a"); }),
            "/dev/full: cannot be written: No space left on device");
  EXPECT_EQ(message([&] { list_folder(folder / "file"); }),
            (folder / "file").string() + ": cannot be listed: Not a directory");
}

TEST_F(Files, ALockIsHeldOnceAndNamesItsProcess) {
  const FolderLock lock(folder);
  try {
    const FolderLock second(folder);
    FAIL() << "locked twice";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(str("process ", ::getpid())), std::string::npos)
        << e.what();
  }
}

TEST_F(Files, TwoWritersOfAFolderDoNotMix) {
  const fs::path target = folder / "model";
  {
    StagedFolder first(target);
    write_file(first.path() / "a", "first");
    EXPECT_THROW(StagedFolder second(target), Error);
    remove_staging(folder);  // a run that starts in the folder beside it
    first.commit();
  }
  EXPECT_EQ(read_file(target / "a"), "first");
  // What a killed one left goes.
  fs::create_directories(folder / ".model.staging");
  write_file(folder / ".model.staging/b", "left");
  StagedFolder third(target);
  third.commit();
  EXPECT_TRUE(list_folder(target).empty());
  EXPECT_THROW(StagedFolder(folder / "."), Error);
}

TEST_F(Files, OutputThatCannotBeLookedAtIsAnError) {
  EXPECT_FALSE(is_there(folder / "a"));
  fs::create_symlink("loop", folder / "loop");
  for (const fs::path& path : {folder / std::string(300, 'a'), folder / "loop"}) {
    try {
      is_there(path);
      FAIL() << path;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kOutput);
    }
  }
  fs::create_symlink("c/d", folder / "b");
  fs::create_symlink("b", folder / "a");
  EXPECT_EQ(behind_links(folder / "a"), folder / "c/d");
}

}  // namespace
}  // namespace ft
