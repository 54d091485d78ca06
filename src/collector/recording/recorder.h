// SPDX-License-Identifier: Apache-2.0
// A sink that writes all entries, and the source's ledger, to a file (chunks.h). The thread that runs the source
// encodes the entries. Another thread (base/output.h) writes the chunks.
#pragma once

#include "base/failure.h"
#include "base/new_file.h"
#include "base/output.h"
#include "base/stopping.h"
#include "base/text.h"
#include "model/ledger.h"
#include "model/source.h"
#include "recording/chunks.h"
#include "recording/entry_encoder.h"
#include "recording/recorder_stream.h"

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {

// Whether the file has the beginning of a recording. A symbolic link is not followed.
bool is_recording(const std::string& path);

struct RecorderOptions {
  std::string path;             // "-": stdout; "unix:PATH": a socket on which a reader listens
  bool force = false;           // replace an existing file
  std::uint64_t max_bytes = 0;  // beyond this size, PATH becomes PATH.1, and PATH.1 becomes PATH.2; 0: no limit
  unsigned keep = 4;            // number of older files to keep
  // The oldest recordings in the folder are deleted, so that all together have at most this size. Only those count
  // whose names differ from that of `path` in numbers alone. At least twice max_bytes; 0: no limit
  std::uint64_t keep_total = 0;

  // Returns `path` if `i` is 0, otherwise an older file: the larger `i`, the older.
  [[nodiscard]] std::string file(unsigned i) const;
  // `path` for messages.
  [[nodiscard]] std::string name() const { return path == "-" ? "stdout" : printable(path); }
  // The existing files that rotation renames or deletes, whatever they contain.
  [[nodiscard]] std::vector<std::string> older_files() const;
};

class Recorder : public Sink, private BatchSink {
 public:
  // Creates the file. It appears at its path with the first tick or entry, or in finish(), which may throw Failure too.
  // Until then an existing file is left untouched. The ledger of `source`, which must outlive finish(), is written with
  // the entries. Throws Failure.
  Recorder(RecorderOptions options, const Source& source);

  // The source does not wait for the file. Chunks that the queue cannot hold are dropped and counted.
  void set_live() {
    output_.set_live();
    is_live_ = true;
  }

  [[nodiscard]] BatchSink* batches() override { return this; }
  void on_entry(const Entry& entry) override;
  void on_tick(std::uint64_t now_unix_ns) override;
  // Waits until all chunks so far are written (Output::flush).
  void wait_until_written() { output_.flush(); }
  // Writes pending entries and the end of the recording. Returns false if the file is not complete. If it sets
  // `leaves_threads`, a thread may still use this object, which must then not be destroyed.
  bool finish();

  // The source's ledger, in which entries that could not be written count as export_dropped.
  [[nodiscard]] Ledger ledger() const;

  struct Totals {
    EntryCounts entries;  // that were written
    std::uint64_t bytes = 0;
    std::uint64_t dropped = 0;  // entries that could not be written
    unsigned files = 1;
  };
  [[nodiscard]] Totals totals() const;

 private:
  class EntryChunk;
  static constexpr std::size_t kMostDropped = 4096;  // processes whose dropped entries are counted apart

  void on_batch(const EntryBatch& batch) override;
  void open(bool may_replace);
  bool connect(std::uint64_t time_unix_ns);
  void disconnect();
  void create();
  void begin();
  void publish(bool may_replace);
  [[nodiscard]] Failure cannot_create(int error) const;
  void keep_total(std::uint64_t bytes);
  bool begin_file();
  void flush();
  bool write_about(std::uint64_t time_unix_ns);
  void post_ledger(bool is_last = false);
  bool write_ledger(Ledger ledger, std::uint64_t time_unix_ns);
  bool write_end(std::uint64_t time_unix_ns);
  void look_for_file();
  bool write(const Chunk& chunk);
  bool write_to_part(const Chunk& chunk);
  void update_totals();
  void make_room(std::size_t payload_bytes, std::uint64_t time_unix_ns);
  void rotate(std::uint64_t time_unix_ns);
  [[nodiscard]] unsigned free_older_file() const;
  void complain(const std::string& what);
  void count_dropped(LedgerSum& dropped, const std::vector<EntryShare>& shares);
  void look_at_queue();
  std::size_t& added_by_group_of(const Process& process);
  bool refuses(const ProcessPointer& process, std::uint64_t entries);
  void note_added(const ProcessPointer& process, std::size_t bytes);

  RecorderOptions options_;
  std::string recording_;  // random id that all parts of the recording share
  std::atomic<bool> complained_ = false;
  std::atomic<std::uint64_t> now_ = 0;
  std::atomic<std::size_t> ledger_bytes_ = 0;

  // Used by the thread that runs the source.
  const Source& source_;
  EntryEncoder encoder_;
  EntryCounts pending_;  // what it has
  bool is_live_ = false;
  static constexpr std::size_t kChunkBytes = 1U << 20U;
  std::size_t chunk_bytes_ = kChunkBytes;  // a chunk is written when it has this size
  std::uint64_t flushed_at_ = 0, ledger_at_ = 0;
  LedgerSum refused_{kMostDropped};  // by the queue, or by refuses()
  // While the queue of a live source is nearly full, each group of processes may add so many bytes, so
  // that one that emits more than can be written takes no room from others.
  static constexpr std::size_t kMostOfGroup = Output::kCapacity / 32;
  bool is_nearly_full_ = false;
  std::map<std::string, std::size_t> added_;  // by group, since it is nearly full

  // Used by the thread of `output_`, and by open() in the constructor.
  std::unique_ptr<RecorderStream> stream_;  // null for a file
  std::unique_ptr<ChunkWriter> writer_;     // null while a stream has no reader
  std::unique_ptr<NewFile> file_;           // until it is published
  std::pair<dev_t, ino_t> inode_{};         // of the file at the path
  bool has_begun_ = false;
  bool is_gone_ = false;  // the pipe has no reader any more
  bool has_last_ledger_ = false;
  std::atomic<bool> has_end_ = false, is_synced_ = false;  // finish() reads them while the thread may still run
  std::atomic<bool> is_deleted_ = false;                   // the same
  unsigned parts_ = 1;
  std::uint64_t closed_bytes_ = 0;  // size of the earlier parts
  bool part_has_entries_ = false;

  mutable std::mutex mutex_;
  Totals totals_;                    // with mutex_
  LedgerSum dropped_{kMostDropped};  // with mutex_; could not be written

  Output output_;  // the last member, because its thread uses the others
};

// If finish() leaves a thread that the kernel does not let go of, it may still use the recorder.
struct DestroyUnlessUsed {
  void operator()(const Recorder* recorder) const {
    if (!leaves_threads) delete recorder;
  }
};
using RecorderPointer = std::unique_ptr<Recorder, DestroyUnlessUsed>;

}  // namespace nopspan::collector
