// SPDX-License-Identifier: Apache-2.0
#include "batch_engine.h"

#include <nopspan/engine.h>

#include <algorithm>
#include <utility>

namespace example {
namespace {

namespace engine = nopspan::engine;
using Clock = GenerationTimes::Clock;

constexpr std::chrono::milliseconds kReportInterval{100};

std::size_t common_prefix(const std::vector<Token>& a, const std::vector<Token>& b) {
  const std::size_t shorter = std::min(a.size(), b.size());
  std::size_t length = 0;
  while (length < shorter && a[length] == b[length]) ++length;
  return length;
}

std::int64_t number(std::size_t count) { return static_cast<std::int64_t>(count); }

}  // namespace

Generation::Generation(GenerationRequest request, const nopspan::Context& context)
    : request_(std::move(request)), context_(context), filter_(request_.stop), random_(request_.seed) {}

Piece Generation::next(std::string& text, std::chrono::milliseconds patience) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, patience, [this] { return !ready_.empty() || ended_; });
  text = std::exchange(ready_, {});
  if (!text.empty()) return Piece::kText;
  return ended_ ? Piece::kEnd : Piece::kNothingYet;
}

void Generation::cancel(const char* reason) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (cancelled_ == nullptr) cancelled_ = reason;
  changed_.wait(lock, [this] { return ended_; });
}

void Generation::deliver(const std::string& text) {
  if (text.empty()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  ready_ += text;
  changed_.notify_one();
}

void Generation::end(Finish finish) {
  const std::lock_guard<std::mutex> lock(mutex_);
  finish_ = finish;
  times_.ended = Clock::now();
  if (times_.admitted == Clock::time_point()) times_.admitted = times_.ended;
  if (completion_tokens_ == 0) times_.first_token = times_.ended;
  ended_ = true;
  changed_.notify_one();
}

const char* Generation::cancelled() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return cancelled_;
}

BatchEngine::BatchEngine(const LanguageModel& model, const Tokenizer& tokenizer, const EngineOptions& options,
                         ServerBooks& books)
    : model_(model), tokenizer_(tokenizer), options_(options), books_(books), slots_(options.slots), thread_([this] {
        run();
      }) {}

bool BatchEngine::submit(const std::shared_ptr<Generation>& generation, nopspan::AsyncSpan& span) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_ || waiting_.size() >= options_.waiting) return false;
  generation->meter_ = nopspan::StreamMeter{std::move(span)};
  generation->times_.submitted = Clock::now();
  generation->phase_ = nopspan::AsyncSpan{engine::queue, generation->context_};
  waiting_.push_back(generation);
  submitted_.notify_one();
  return true;
}

void BatchEngine::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    submitted_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void BatchEngine::run() {
  while (admit()) {
    if (occupied_ > 0) step();
  }
  for (Slot& slot : slots_) {
    if (slot.generation != nullptr) release(slot, Finish::kCancelled, "shutdown");
  }
  for (const auto& generation : waiting_) drop(*generation, "shutdown");
}

// Waits until there is work, and fills the free slots. Returns false when the engine stops.
bool BatchEngine::admit() {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto has_work = [this] { return stopping_ || occupied_ > 0 || !waiting_.empty(); };
  if (!has_work()) {
    lock.unlock();
    reported_ = {};
    report();  // reports that nothing is running, because the next report only comes with the next request
    lock.lock();
  }
  submitted_.wait(lock, has_work);
  let_go_of_cancelled();
  while (!stopping_ && occupied_ < slots_.size() && !waiting_.empty()) {
    std::shared_ptr<Generation> generation = std::move(waiting_.front());
    waiting_.pop_front();
    Slot& slot = best_free_slot(generation->request_.prompt);
    occupy(slot, std::move(generation));
  }
  return !stopping_;
}

// Ends the cancelled requests, whatever they wait for.
void BatchEngine::let_go_of_cancelled() {
  for (Slot& slot : slots_) {
    const char* why = slot.generation != nullptr ? slot.generation->cancelled() : nullptr;
    if (why != nullptr) release(slot, Finish::kCancelled, why);
  }
  const auto gone = [](const std::shared_ptr<Generation>& generation) {
    const char* why = generation->cancelled();
    if (why != nullptr) drop(*generation, why);
    return why != nullptr;
  };
  waiting_.erase(std::remove_if(waiting_.begin(), waiting_.end(), gone), waiting_.end());
}

// Ends a request that never had a slot.
void BatchEngine::drop(Generation& generation, const char* why) {
  generation.phase_.cancel(why);
  generation.end(Finish::kCancelled);
}

BatchEngine::Slot& BatchEngine::best_free_slot(const std::vector<Token>& prompt) {
  Slot* best = nullptr;
  std::size_t longest = 0;
  for (Slot& slot : slots_) {
    if (slot.generation != nullptr) continue;
    const std::size_t length = common_prefix(slot.sequence.tokens(), prompt);
    if (best == nullptr || length > longest) {
      best = &slot;
      longest = length;
    }
  }
  return *best;
}

void BatchEngine::occupy(Slot& slot, std::shared_ptr<Generation> generation) {
  const std::vector<Token>& prompt = generation->request_.prompt;
  // The last prompt token is always processed again, because the first token of the answer is computed from it.
  const std::size_t cached = std::min(common_prefix(slot.sequence.tokens(), prompt), prompt.size() - 1);
  slot.sequence.truncate(cached);
  slot.prompt_done = cached;
  generation->cached_tokens_ = cached;
  generation->times_.admitted = Clock::now();
  generation->phase_.end();
  generation->phase_ = nopspan::AsyncSpan{engine::prefill, generation->context_};
  slot.generation = std::move(generation);
  ++occupied_;
}

void BatchEngine::step() {
  std::size_t prefill_budget = options_.prefill_tokens;
  std::size_t batch = 0;
  std::size_t decoded = 0;
  report();
  nopspan::Span span{engine::step, [&](engine::StepFields& fields) {
                       fields.engine(kEngineName);
                       for (const Slot& slot : slots_) {
                         if (slot.generation != nullptr) fields.link(slot.generation->context_);
                       }
                     }};
  for (Slot& slot : slots_) {
    if (slot.generation == nullptr) continue;
    ++batch;
    prefill_budget -= prefill(slot, prefill_budget);
  }
  std::this_thread::sleep_for(options_.step_delay);
  for (Slot& slot : slots_) {
    if (slot.generation == nullptr) continue;
    if (slot.prompt_done == slot.generation->request_.prompt.size()) decoded += decode(slot);
  }
  const std::size_t prefilled = options_.prefill_tokens - prefill_budget;
  span.with<engine::StepFields>([&](engine::StepFields& fields) {
    fields.batch_size(number(batch)).prefill_tokens(number(prefilled)).decode_tokens(number(decoded));
  });
  books_.add_step(batch, prefilled, decoded);
}

// Emits the engine's gauges, at most ten times a second.
void BatchEngine::report() {
  const Clock::time_point now = Clock::now();
  if (now - reported_ < kReportInterval) return;
  reported_ = now;
  engine::stats([this](engine::StatsFields& fields) {
    std::size_t waiting = 0;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      waiting = waiting_.size();
    }
    std::size_t cached = 0;
    for (const Slot& slot : slots_) cached += slot.sequence.size();
    fields.engine(kEngineName)
        .running(number(occupied_))
        .waiting(number(waiting))
        .kv_cache_used(number(cached))
        .kv_cache_total(number(slots_.size() * options_.context_tokens));
  });
}

// Processes up to `budget` tokens of the slot's prompt. Returns how many it processed.
std::size_t BatchEngine::prefill(Slot& slot, std::size_t budget) {
  const std::vector<Token>& prompt = slot.generation->request_.prompt;
  const std::size_t count = std::min(budget, prompt.size() - slot.prompt_done);
  for (std::size_t i = 0; i < count; ++i) slot.sequence.append(prompt[slot.prompt_done++]);
  return count;
}

// Generates the slot's next token. Returns 1, or 0 if the text ends instead.
std::size_t BatchEngine::decode(Slot& slot) {
  Generation& generation = *slot.generation;
  const GenerationRequest& request = generation.request_;
  const bool given = generation.completion_tokens_ < request.given.size();
  const Token token = given ? request.given[generation.completion_tokens_]
                            : model_.next(slot.sequence, request.temperature, generation.random_);
  if (token == kEnd && !given && !request.ignore_end) {
    release(slot, Finish::kStop);
    return 0;
  }
  slot.sequence.append(token);
  if (generation.completion_tokens_ == 0) {
    generation.times_.first_token = Clock::now();
    generation.meter_.token();
    generation.times_.first_token_reported = Clock::now();
    end_phase(slot, nullptr);
    generation.phase_ = nopspan::AsyncSpan{engine::decode, generation.context_};
  } else {
    generation.meter_.token();
  }
  ++generation.completion_tokens_;
  const bool paragraph = token == kEnd && !given;
  generation.deliver(generation.filter_.add(paragraph ? "\n\n" : tokenizer_.text(token)));
  const bool all_given = generation.completion_tokens_ == request.given.size();
  if (generation.filter_.stopped() || (request.only_given && all_given)) {
    release(slot, Finish::kStop);
  } else if (slot.sequence.size() >= options_.context_tokens ||
             (!request.only_given && generation.completion_tokens_ >= request.max_tokens)) {
    release(slot, Finish::kLength);
  }
  return 1;
}

// Ends the span of prefill or decode. The first token belongs to prefill.
void BatchEngine::end_phase(Slot& slot, const char* cancelled_why) {
  Generation& generation = *slot.generation;
  if (generation.completion_tokens_ == 0) {
    generation.prefill_tokens_ = slot.prompt_done - generation.cached_tokens_;
    generation.phase_.with<engine::PrefillFields>([&](engine::PrefillFields& fields) {
      fields.prefill_tokens(number(generation.prefill_tokens_)).cached_tokens(number(generation.cached_tokens_));
    });
  } else {
    generation.phase_.with<engine::DecodeFields>(
        [&](engine::DecodeFields& fields) { fields.decode_tokens(number(generation.completion_tokens_ - 1)); });
  }
  if (cancelled_why != nullptr) {
    generation.phase_.cancel(cancelled_why);
  } else {
    generation.phase_.end();
  }
}

void BatchEngine::release(Slot& slot, Finish finish, const char* cancelled_why) {
  Generation& generation = *slot.generation;
  end_phase(slot, cancelled_why);
  if (finish != Finish::kCancelled) generation.deliver(generation.filter_.finish());
  generation.end(finish);
  slot.generation.reset();
  --occupied_;
}

}  // namespace example
