// TensorBoard event files: scalars that `tensorboard --logdir` plots. A file is a list of TFRecords
// (length, checksum, payload, checksum), each payload an `Event` protobuf (tensorflow/core/util/
// event.proto). Only the few fields that scalars need are written, so no protobuf library is used.
// Trap: TensorBoard reads every event file of a folder as one run. A resumed run therefore begins
// its file with a SessionLog START, which drops the points of that step and later read before it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"

namespace ft {

/// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), as in RFC 3720 appendix B.4.
uint32_t crc32c(std::string_view bytes);

/// `payload` framed as one TFRecord.
std::string tfrecord(std::string_view payload);

/// Removes the event files in `folder`, which need not exist; other files stay.
void remove_event_files(const fs::path& folder);

struct Scalar {
  std::string_view tag;
  double value = 0;  ///< stored as float32, all that the format's simple_value holds
};

/// One event file. Each event is one append, so a run that dies leaves whole events behind.
class EventFile {
 public:
  /// Starts events.out.tfevents.<seconds>.<host>.<pid> in `folder`; `first_step` is the first step
  /// that this file may hold.
  EventFile(const fs::path& folder, int64_t first_step);
  void write(int64_t step, const std::vector<Scalar>& values) const;
  const fs::path& path() const { return file_; }

 private:
  fs::path file_;
};

}  // namespace ft
