// SPDX-License-Identifier: Apache-2.0
#include "export/file_receiver.h"

#include "base/text.h"

#include <chrono>
#include <cstring>
#include <utility>

namespace nopspan::collector {

FileReceiver::FileReceiver(std::string folder, ExportOptions options, Say say)
    : say_(std::move(say)),
      name_(std::move(folder)),
      options_(std::move(options)),
      files_(name_),
      feed_(options_, [this](const ExportBody& body) { append(body); }) {}

void FileReceiver::append(const ExportBody& body) {
  if (body.signal == Signal::logs && !options_.logs) return account_.leave_out(body.items);
  account_.queue(body.items);
  account_.send(body.items, ReceiverAccount::Place::queue, false);
  if (files_.append(body)) {
    account_.accept(body.items);
    has_said_ = false;
  } else {
    if (!std::exchange(has_said_, true)) {
      say_(printable(name_) + ": " + std::strerror(files_.error()) +
           ": entries are dropped and counted until the files can be written again");
    }
    account_.put_back(body.items, ReceiverAccount::Place::queue);
    account_.drop(body.items, ReceiverAccount::Place::queue, DropReason::disk_error);
  }
}

void FileReceiver::on_tick(std::uint64_t now_unix_ns) {
  feed_.on_tick(now_unix_ns);
  feed_.flush();
}

void FileReceiver::add_metrics(std::vector<ExportBody> bodies) {
  for (const ExportBody& body : bodies) append(body);
}

void FileReceiver::finish(std::chrono::nanoseconds /*time*/) { feed_.finish(); }

}  // namespace nopspan::collector
