// SPDX-License-Identifier: Apache-2.0
#include "recorder/batch_ring.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <new>

namespace nopspan::recording {

bool wait_for(sem_t& semaphore, std::uint64_t until_ns) noexcept {
  constexpr std::uint64_t kSecond = 1'000'000'000;
  const timespec until{static_cast<time_t>(until_ns / kSecond), static_cast<long>(until_ns % kSecond)};
  int result = 0;
  do {
    result = sem_clockwait(&semaphore, CLOCK_MONOTONIC, &until);
  } while (result != 0 && errno == EINTR);
  return result == 0;
}

BatchRing::BatchRing(std::size_t bytes) : capacity_(bytes) {
  void* const memory = ::mmap(nullptr, capacity_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<unsigned char*>(memory);
  sem_init(&wake_up_, 0, 0);
}

BatchRing::~BatchRing() {
  sem_destroy(&wake_up_);
  ::munmap(memory_, capacity_);
}

bool BatchRing::take(const nopspan_thread& header, const unsigned char* bytes) noexcept {
  return put(Record::of(header, header.bytes), bytes, kForNotes);
}

void BatchRing::note_refused_at_end(const nopspan_thread& header, std::uint64_t entries) noexcept {
  if (!put(Record::of(header, 0), nullptr, 0)) refused_at_ends_.fetch_add(entries, std::memory_order_relaxed);
}

bool BatchRing::put(const Record& record, const unsigned char* bytes, std::size_t keep_free) noexcept {
  const std::size_t size = (kHead + record.bytes + 7) & ~std::size_t{7};
  std::uint64_t at = 0, used = 0;
  do {
    // In this order. A thread that is interrupted in between must not see more read than reserved.
    const std::uint64_t read = read_.load(std::memory_order_acquire);
    at = reserved_.load(std::memory_order_relaxed);
    used = at - read;
    if (used + size + keep_free > capacity_) return false;
  } while (!reserved_.compare_exchange_weak(at, at + size, std::memory_order_relaxed));
  copy_in(at + sizeof(std::uint64_t), &record, sizeof(record));
  copy_in(at + kHead, bytes, record.bytes);
  size_at(at).store(size, std::memory_order_release);
  if (used < capacity_ / 4 && used + size >= capacity_ / 4) wake();
  return true;
}

std::string_view BatchRing::bytes_at(std::uint64_t at, std::size_t bytes) {
  const std::size_t place = at % capacity_;
  if (bytes <= capacity_ - place) return {reinterpret_cast<const char*>(memory_) + place, bytes};
  joined_.resize(bytes);
  copy_out(at, joined_.data(), bytes);
  return joined_;
}

void BatchRing::remove(std::uint64_t at, std::uint64_t size) noexcept {
  const std::size_t place = at % capacity_, first = std::min<std::size_t>(size, capacity_ - place);
  std::memset(memory_ + place, 0, first);
  std::memset(memory_, 0, size - first);
  read_.store(at + size, std::memory_order_release);
}

void BatchRing::copy_in(std::uint64_t at, const void* from, std::size_t bytes) noexcept {
  if (bytes == 0) return;
  const std::size_t place = at % capacity_, first = std::min(bytes, capacity_ - place);
  std::memcpy(memory_ + place, from, first);
  std::memcpy(memory_, static_cast<const unsigned char*>(from) + first, bytes - first);
}

void BatchRing::copy_out(std::uint64_t at, void* to, std::size_t bytes) const noexcept {
  const std::size_t place = at % capacity_, first = std::min(bytes, capacity_ - place);
  std::memcpy(to, memory_ + place, first);
  std::memcpy(static_cast<unsigned char*>(to) + first, memory_, bytes - first);
}

// Records begin at multiples of eight, so that their size is in one piece.
std::atomic<std::uint64_t>& BatchRing::size_at(std::uint64_t at) const noexcept {
  return *reinterpret_cast<std::atomic<std::uint64_t>*>(memory_ + at % capacity_);
}

}  // namespace nopspan::recording
