// SPDX-License-Identifier: Apache-2.0
#include "open/open_reading.h"

#include "base/failure.h"
#include "host/process_reader.h"

#include <cerrno>
#include <iostream>
#include <utility>

namespace nopspan::collector {

std::string why_no_spans(int error) {
  if (error == EPERM || error == EACCES) return "reading its memory needs CAP_SYS_PTRACE";
  if (error == ENOTSUP) return "its library is too old: open spans can be read since nopspan 0.2";
  if (error == EBADMSG || error == EFAULT) return "its memory is damaged";
  return read_error_text(error);
}

void OpenReading::add(const ProcessPointer& process, std::uint32_t user, const std::string& library, int error,
                      OpenSpans& open, const EarlyRequests& early) {
  if (error == ESRCH) return;
  if (error != 0) {
    now_.skipped.push_back({library, process->pid, process->comm, why_no_spans(error)});
    return;
  }
  OpenProcess copy;
  copy.process = process;
  copy.library = library;
  if (open.is_raised) {  // otherwise what the threads hold is old
    copy.early = early.keys();
    copy.early_unread = early.unread();
  }
  limit_.apply(user, open);
  add_open_spans(open, now_.processes.size(), copy, spans_);
  now_.processes.push_back(std::move(copy));
}

void OpenReading::finish(const OpenSpansRead& read) {
  OpenNow now = std::exchange(now_, {});
  now.time_unix_ns = read.time_unix_ns;
  now.time_ns = read.time_ns;
  now.skipped.insert(now.skipped.end(), read.skipped.begin(), read.skipped.end());
  now.requests = open_requests(std::exchange(spans_, {}), now.processes);
  now.unwanted = std::erase_if(now.requests, [&](const OpenRequest& request) { return !filter_.wants(request); });
  limit_ = {};
  on_list_(std::move(now));
}

void OpenReading::on_held(const Held& held) {
  if (held.what == Held::What::fetched) {
    early_.add(held.bytes, held.header.next - held.header.first);
  } else {
    early_.add_unread(held.header.bytes);
  }
}

void OpenReading::on_open(const PackedOpenSpans& open) {
  const EarlyRequests early = std::exchange(early_, {});
  if (process_ == nullptr || process_->pid != open.pid) throw Failure("a message of the tracing process is malformed");
  OpenSpans spans;
  const int error = unpack_open_spans({open.error, std::string(open.bytes), OpenFile()}, spans);
  add(process_, open.user, open.library, error, spans, early);
}

void OpenReading::on_text(std::string_view text) { std::cerr << text << std::flush; }

}  // namespace nopspan::collector
