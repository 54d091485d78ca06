// SPDX-License-Identifier: Apache-2.0
#include "batch_engine.h"

#include <algorithm>
#include <utility>

namespace example {
namespace {

namespace engine = nopspan::engine;
using Clock = GenerationFacts::Clock;

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
    : request_(std::move(request)), context_(context), random_(request_.seed), text_(request_.prompt) {}

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
  facts_.ended = Clock::now();
  if (facts_.admitted == Clock::time_point()) facts_.admitted = facts_.ended;
  if (facts_.completion_tokens == 0) facts_.first_token = facts_.ended;
  ended_ = true;
  changed_.notify_one();
}

const char* Generation::cancelled() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return cancelled_;
}

BatchEngine::BatchEngine(const LanguageModel& model, const EngineOptions& options)
    : model_(model),
      options_(options),
      labels_(nopspan::Context().with_label("engine", kEngineName).with_label("model", options.model)),
      slots_(options.slots),
      thread_([this] { run(); }) {}

bool BatchEngine::submit(const std::shared_ptr<Generation>& generation, nopspan::AsyncSpan& span) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_ || waiting_.size() >= 256 + 4 * options_.slots) {
    engine::rejected(generation->context_, [](auto& event) { event.engine(kEngineName).reason("queue_full"); });
    return false;
  }
  generation->meter_ = nopspan::StreamMeter{std::move(span)};
  generation->facts_.number = ++requests_;
  generation->facts_.submitted = Clock::now();
  generation->phase_ = nopspan::AsyncSpan{engine::queue, generation->context_,
                                          [](engine::QueueFields& fields) { fields.reason("capacity"); }};
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
  while (!stopping_ && occupied_ < slots_.size() && !waiting_.empty() && fits(*waiting_.front())) {
    std::shared_ptr<Generation> generation = std::move(waiting_.front());
    waiting_.pop_front();
    Slot& slot = best_free_slot(generation->text_);
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
    const std::size_t length = common_prefix(slot.sequence, prompt);
    if (best == nullptr || length > longest) {
      best = &slot;
      longest = length;
    }
  }
  return *best;
}

void BatchEngine::occupy(Slot& slot, std::shared_ptr<Generation> generation) {
  const std::vector<Token>& text = generation->text_;
  // The last token is always processed again, because the next one is computed from it.
  const std::size_t cached = std::min(common_prefix(slot.sequence, text), text.size() - 1);
  slot.sequence.resize(cached);
  slot.prompt_done = slot.cached = cached;
  slot.processed = slot.again = slot.decoded = 0;
  slot.decodes = false;
  slot.order = ++orders_;
  slot.occupied = Clock::now();
  generation->computed_ = std::max(generation->computed_, cached);
  if (generation->facts_.preemptions == 0) {
    generation->facts_.cached_tokens = cached;
    generation->facts_.admitted = slot.occupied;
  }
  engine::prefix_cache(generation->context_, [&](engine::PrefixCacheFields& event) {
    event.engine(kEngineName).local(number(text.size()), number(cached));
  });
  if (options_.books) {
    options_.books({{"event", "prefix_cache"}, {"queried_tokens", text.size()}, {"hit_tokens", cached}});
  }
  generation->phase_.end();
  const nopspan::ContextScope scope{labels_};  // for a request that began before a tracer attached
  generation->phase_ = nopspan::AsyncSpan{engine::prefill, generation->context_};
  slot.generation = std::move(generation);
  ++occupied_;
}

// Whether the request and those in the slots have room for their next tokens.
bool BatchEngine::fits(const Generation& generation) const {
  if (options_.kv_tokens == 0 || occupied_ == 0) return true;
  std::size_t needed = generation.text_.size() + 1 + options_.draft_tokens;
  for (const Slot& slot : slots_) {
    if (slot.generation != nullptr) needed += slot.generation->text_.size() + 1 + options_.draft_tokens;
  }
  return needed <= options_.kv_tokens;
}

// Makes room for the tokens of the next step.
void BatchEngine::make_room() {
  if (options_.kv_tokens == 0) return;
  for (;;) {
    std::size_t needed = 0, of_prompts = 0;
    for (const Slot& slot : slots_) {
      needed += slot.sequence.size();
      if (slot.generation == nullptr) continue;
      of_prompts += slot.generation->text_.size() - std::min(slot.prompt_done, slot.generation->text_.size());
      needed += 1 + options_.draft_tokens;
    }
    needed += std::min(of_prompts, options_.prefill_tokens);
    if (needed <= options_.kv_tokens) return;
    if (forget_idle_sequence()) continue;
    if (occupied_ <= 1) return;  // a single request fits, because kv_tokens is at least context_tokens
    preempt_latest();
  }
}

// Forgets the sequence of the slot that has been free for the longest time. Returns false if there is none.
bool BatchEngine::forget_idle_sequence() {
  Slot* oldest = nullptr;
  for (Slot& slot : slots_) {
    if (slot.generation != nullptr || slot.sequence.size() == 0) continue;
    if (oldest == nullptr || slot.released < oldest->released) oldest = &slot;
  }
  if (oldest == nullptr) return false;
  const std::size_t tokens = oldest->sequence.size();
  const Clock::time_point now = Clock::now();
  engine::evicted([&](engine::EvictedFields& event) {
    event.engine(kEngineName).tier("device").blocks(number(tokens)).tokens(number(tokens));
    event.lifetime_ns(now - oldest->occupied).idle_ns(now - oldest->released);
  });
  if (options_.books) options_.books({{"event", "evicted"}, {"tokens", tokens}});
  oldest->sequence.resize(0);
  return true;
}

// Takes the slot from the request that got its slot last.
void BatchEngine::preempt_latest() {
  Slot* latest = nullptr;
  for (Slot& slot : slots_) {
    if (slot.generation != nullptr && (latest == nullptr || slot.order > latest->order)) latest = &slot;
  }
  Generation& generation = *latest->generation;
  const std::size_t tokens = latest->sequence.size();
  end_phase(*latest, nullptr);
  engine::preempted(generation.context_, [&](engine::PreemptedFields& event) {
    event.engine(kEngineName).reason("no_blocks").mode("recompute").blocks(number(tokens)).tokens(number(tokens));
  });
  if (options_.books) options_.books({{"event", "preempted"}, {"tokens", tokens}});
  ++generation.facts_.preemptions;
  const nopspan::ContextScope scope{labels_};
  generation.phase_ = nopspan::AsyncSpan{engine::queue, generation.context_,
                                         [](engine::QueueFields& fields) { fields.reason("preempted"); }};
  latest->sequence.resize(0);
  latest->decodes = false;
  --occupied_;
  const std::lock_guard<std::mutex> lock(mutex_);
  waiting_.push_front(std::move(latest->generation));
  latest->generation = nullptr;
}

void BatchEngine::step() {
  make_room();
  report();
  std::size_t budget = options_.prefill_tokens;
  nopspan::Span span{engine::step, [](engine::StepFields& fields) { fields.engine(kEngineName); }};
  std::vector<engine::Member> members;
  std::vector<std::uint64_t> numbers;  // of their requests
  for (Slot& slot : slots_) {
    if (slot.generation == nullptr) continue;
    slot.member = members.size();
    engine::Member member = engine::Member::of(slot.generation->context_, slot.generation->facts_.number);
    member.context_tokens = static_cast<std::uint32_t>(slot.sequence.size());
    const std::size_t prefilled = prefill(slot, budget);
    member.prefill_tokens = static_cast<std::uint32_t>(prefilled);
    budget -= prefilled;
    members.push_back(member);
    numbers.push_back(slot.generation->facts_.number);
  }
  const std::chrono::microseconds device =
      options_.step_delay + (options_.prefill_tokens - budget) * options_.prompt_delay;
  std::this_thread::sleep_for(device);
  const std::size_t cached = cached_tokens();
  std::size_t decoded = 0;
  for (Slot& slot : slots_) {
    if (slot.generation == nullptr || slot.prompt_done != slot.generation->text_.size()) continue;
    decode(slot, members[slot.member]);
    decoded += members[slot.member].decode_tokens;
  }
  ++steps_;
  span.with<engine::StepFields>([&](engine::StepFields& fields) {
    fields.batch_size(number(members.size())).prefill_tokens(number(options_.prefill_tokens - budget));
    fields.decode_tokens(number(decoded)).budget_tokens(number(options_.prefill_tokens)).number(steps_);
    if (options_.has_device) fields.device_ns(device);
    fields.kv_used(number(cached)).members(members.data(), members.size());
  });
  if (options_.books) note_step(numbers, members);
}

void BatchEngine::note_step(const std::vector<std::uint64_t>& numbers,
                            const std::vector<engine::Member>& members) const {
  Json list = Json::array();
  for (std::size_t i = 0; i < members.size(); ++i) {
    const engine::Member& member = members[i];
    list.push_back(
        {numbers[i], member.prefill_tokens, member.decode_tokens, member.drafted_tokens, member.accepted_tokens});
  }
  options_.books({{"step", steps_}, {"batch_size", members.size()}, {"members", std::move(list)}});
}

// The tokens in the KV cache, of free slots too.
std::size_t BatchEngine::cached_tokens() const {
  std::size_t cached = 0;
  for (const Slot& slot : slots_) cached += slot.sequence.size();
  return cached;
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
    fields.engine(kEngineName)
        .running(number(occupied_))
        .waiting(number(waiting))
        .kv_cache_used(number(cached_tokens()))
        .kv_cache_total(number(options_.kv_tokens != 0 ? options_.kv_tokens : slots_.size() * options_.context_tokens));
  });
}

// Processes up to `budget` tokens of the slot's prompt. Returns how many it processed.
std::size_t BatchEngine::prefill(Slot& slot, std::size_t budget) {
  Generation& generation = *slot.generation;
  GenerationFacts& facts = generation.facts_;
  const std::size_t count = std::min(budget, generation.text_.size() - slot.prompt_done);
  if (count == 0) return 0;
  const std::size_t end = slot.prompt_done + count;
  const std::size_t again = std::min(end, std::max(generation.computed_, slot.prompt_done)) - slot.prompt_done;
  slot.processed += count;
  slot.again += again;
  facts.recomputed_tokens += again;
  facts.prefill_tokens += count - again;
  ++facts.prompt_chunks;
  generation.computed_ = std::max(generation.computed_, end);
  while (slot.prompt_done < end) slot.sequence.push_back(generation.text_[slot.prompt_done++]);
  return count;
}

// Guesses the next tokens of a request that has at least one: the likeliest ones.
std::vector<Token> BatchEngine::draft(const Slot& slot) const {
  std::vector<Token> tokens;
  const std::size_t made = slot.generation->facts_.completion_tokens;
  if (made == 0 || made < slot.generation->request_.given.size()) return {};
  LanguageModel::Random unused;
  while (tokens.size() < options_.draft_tokens) {
    const Token token = model_.next(tokens.empty() ? slot.sequence.back() : tokens.back(), 0, unused);
    if (token.empty()) break;
    tokens.push_back(token);
  }
  return tokens;
}

// Generates the slot's next token, and those after it that were guessed.
void BatchEngine::decode(Slot& slot, engine::Member& member) {
  const std::shared_ptr<Generation> generation = slot.generation;  // because the slot may lose it below
  const GenerationRequest& request = generation->request_;
  GenerationFacts& facts = generation->facts_;
  const std::vector<Token> guessed = draft(slot);
  if (!guessed.empty()) {
    ++facts.drafts;
    facts.drafted_tokens += guessed.size();
    facts.accepted_by_position.resize(options_.draft_tokens);
    member.drafted_tokens = static_cast<std::uint16_t>(guessed.size());
  }
  for (std::size_t i = 0;; ++i) {
    const bool given = facts.completion_tokens < request.given.size();
    const Token token = given ? request.given[facts.completion_tokens]
                              : model_.next(slot.sequence.back(), request.temperature, generation->random_);
    const bool is_right = i < guessed.size() && token == guessed[i];
    if (is_right) {
      ++facts.accepted_tokens;
      ++facts.accepted_by_position[i];
      ++member.accepted_tokens;
    }
    if (token.empty() && !given && !request.ignore_end) {
      release(slot, Finish::kStop);
      return;
    }
    ++member.decode_tokens;
    if (!generate(slot, token, !guessed.empty())) return;
    if (!is_right) {
      report_tokens(*generation);
      return;
    }
  }
}

// Reports the tokens that one step generated for a request, which arrive together.
void BatchEngine::report_tokens(Generation& generation) {
  if (generation.unreported_ == 0) return;
  const std::size_t tokens = std::exchange(generation.unreported_, 0);
  const Clock::time_point now = Clock::now(), last = std::exchange(generation.reported_at_, now);
  if (last != Clock::time_point()) {
    generation.facts_.gaps.emplace_back(std::chrono::nanoseconds(now - last).count(), tokens);
  }
  generation.meter_.token(number(tokens), now);
}

// Adds a token to the answer. Returns false if it is the last one. If the step may generate more tokens for the
// request, it is reported with them.
bool BatchEngine::generate(Slot& slot, const Token& token, bool may_be_more) {
  Generation& generation = *slot.generation;
  GenerationFacts& facts = generation.facts_;
  slot.sequence.push_back(token);
  generation.text_.push_back(token);
  generation.computed_ = slot.prompt_done = slot.sequence.size();
  if (facts.completion_tokens == 0) facts.first_token = Clock::now();
  ++generation.unreported_;
  if (!may_be_more) report_tokens(generation);
  if (facts.completion_tokens == 0) facts.first_token_reported = Clock::now();
  if (slot.decodes) {
    ++slot.decoded;
  } else {
    end_phase(slot, nullptr);
    slot.decodes = true;
    const nopspan::ContextScope scope{labels_};
    generation.phase_ = nopspan::AsyncSpan{engine::decode, generation.context_};
  }
  ++facts.completion_tokens;
  generation.deliver(token.empty() ? "\n\n" : token);
  if (slot.sequence.size() < options_.context_tokens && facts.completion_tokens < generation.request_.max_tokens) {
    return true;
  }
  release(slot, Finish::kLength);
  return false;
}

// Ends the span of prefill or decode. The first token belongs to prefill.
void BatchEngine::end_phase(Slot& slot, const char* cancelled_why) {
  Generation& generation = *slot.generation;
  if (slot.decodes) {
    generation.phase_.with<engine::DecodeFields>(
        [&](engine::DecodeFields& fields) { fields.decode_tokens(number(slot.decoded)); });
  } else {
    generation.phase_.with<engine::PrefillFields>([&](engine::PrefillFields& fields) {
      fields.prefill_tokens(number(slot.processed)).cached_tokens(number(slot.cached));
      fields.recomputed_tokens(number(slot.again));
    });
  }
  if (cancelled_why != nullptr) {
    generation.phase_.cancel(cancelled_why);
  } else {
    generation.phase_.end();
  }
}

void BatchEngine::release(Slot& slot, Finish finish, const char* cancelled_why) {
  Generation& generation = *slot.generation;
  report_tokens(generation);
  end_phase(slot, cancelled_why);
  generation.end(finish);
  slot.generation.reset();
  slot.decodes = false;
  slot.released = Clock::now();
  --occupied_;
}

}  // namespace example
