// SPDX-License-Identifier: Apache-2.0
// Batches from traced processes, which may contain anything, and the account of one process. The first byte of an input
// selects: a batch (the next byte is its number of entries), or steps of an account.
#include "require.h"

#include "model/steps.h"
#include "open/open_requests.h"
#include "reader/batch_reader.h"
#include "reader/process_account.h"
#include "stream/batch_entries.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace {

using namespace nopspan::collector;  // NOLINT: the whole file tests this namespace

const ClockSamples& clocks() {
  static const ClockSamples samples{{.monotonic_ns = 1, .offset_ns = 1}};
  return samples;
}

bool is_inside(std::string_view text, std::string_view bytes) {
  return text.empty() || (text.data() >= bytes.data() && text.data() + text.size() <= bytes.data() + bytes.size());
}

void check_texts(const Entry& entry, std::string_view bytes) {
  for (const std::string_view text :
       {entry.name, entry.engine, entry.model, entry.tenant, entry.exception_kind, entry.error_type, entry.foreign_id,
        entry.tracestate, entry.text, entry.attributes, entry.links, entry.members}) {
    require(is_inside(text, bytes), "a text is in the bytes that were read");
  }
  require(entry.links.size() % sizeof(nopspan_link) == 0, "there is no half a link");
  require(entry.members.size() % sizeof(nopspan_member) == 0, "there is no half a member");
  require(entry.members.empty() || entry.step != nullptr || entry.kind == Kind::part, "only steps have members");
  require(entry.step == nullptr || members_of(entry) <= entry.step->members, "a step announces all of its members");
  require(entry.status <= kException, "there is such a status");
}

void read_batch(std::string_view bytes, std::uint64_t entries) {
  const std::uint64_t whole = whole_entries(bytes, entries);
  BatchReader reader(bytes, entries, clocks());
  Entry entry;
  std::uint64_t read = 0;
  std::size_t unshared = 0;
  for (;;) {
    const BatchReader::Outcome outcome = reader.next(entry);
    if (outcome == BatchReader::Outcome::end) break;
    ++read;
    if (outcome != BatchReader::Outcome::entry) continue;
    check_texts(entry, bytes);
    unshared += entry.attributes.size() + entry.links.size() + entry.members.size();
  }
  require(read == whole && read <= entries, "it reads the entries that are there, and no more");
  require(unshared <= bytes.size(), "it gives out no more bytes than it was given");
  EarlyRequests requests;
  requests.add(bytes, entries);
  require(requests.keys().size() <= bytes.size() / sizeof(nopspan_member), "each key is one of a member");
}

// Every entry that arrives is delivered, and the account balances whatever else happens.
void keep_account(std::string_view steps) {
  ProcessAccount account(std::make_shared<Process>(), 0);
  if ((steps.size() & 1U) != 0) account.set_some_unknown();
  Losses of_process{};
  Losses of_threads[4]{};
  std::uint64_t round = 1;
  for (; steps.size() >= 4; steps.remove_prefix(4)) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(steps[i]); };
    const std::uint64_t thread = byte(0) & 3U;
    const Sequences sequences{byte(1), byte(1) + byte(2) % 16U};
    const unsigned reason = byte(3) % NOPSPAN_REASONS;
    const std::uint64_t now = std::uint64_t{byte(3)} << (byte(0) & 31U);
    switch (byte(0) >> 5U) {
      case 0:
      case 1:
        if (ProcessAccount::Thread* found = account.arriving(thread, sequences, now)) {
          for (const Sequences& part : found->ledger.arrive(sequences)) account.delivered(part.count());
        }
        break;
      case 2:
        of_threads[thread][reason] += sequences.count();
        account.thread_losses(thread, sequences, of_threads[thread], byte(2), now);
        break;
      case 3:
        of_process[reason] += sequences.count();
        account.process_losses(1, of_process);
        break;
      case 4:
        if (ProcessAccount::Thread* found = account.find(thread)) found->discarded += byte(2);
        break;
      case 5:
        if (ProcessAccount::Thread* found = account.find(thread)) found->closing_round = round;
        account.close_ended(++round);
        break;
      case 6:
        account.bound_threads(byte(1) % 4U);
        break;
      default:
        account.malformed_of_no_thread(byte(1));
        break;
    }
    require(account.counts().is_balanced(), "what was emitted is what became of it");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  // Exactly sized memory, so that a sanitizer detects a read beyond the end.
  const std::string bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const std::unique_ptr<char[]> exact(new char[bytes.size()]);
  bytes.copy(exact.get(), bytes.size());
  const std::string_view input(exact.get(), bytes.size());
  if (data[0] % 2 == 0) {
    read_batch(input, data[1]);
  } else {
    keep_account(input);
  }
  return 0;
}
