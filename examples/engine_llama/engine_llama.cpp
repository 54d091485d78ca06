// SPDX-License-Identifier: Apache-2.0
// An inference engine on libllama, traced by nopspan: continuous batching, prompts in chunks, prefixes that requests
// share, speculative decoding, preemption and cancellation. It serves random prompts of its own.
//
//   engine_llama --model model.gguf --slots 64 --requests 200 --spec 3 --ctx 4096 --cancel-every 5 --books books.jsonl
#include "telemetry.h"

#include <ggml-backend.h>
#include <llama-cpp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <deque>
#include <exception>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;
using Tokens = std::vector<llama_token>;

constexpr const char* kEngineName = "llama.cpp";
constexpr const char* kCancelled = "client_closed";
constexpr std::chrono::milliseconds kReportInterval{100};
constexpr Count kGiantSteps[] = {40, 44, 100};  // after which giant prompts arrive
constexpr Count kPrefixes = 4;                  // different beginnings of prompts
constexpr Count kShortestMatch = 2;             // tokens that must repeat before a draft continues them

struct Options {
  std::string model, books;
  Count slots = 8, requests = 64, clients = 0, prompt = 96, output = 64;
  Count chunk = 64, ctx = 0, spec = 0, cancel_every = 0, threads = 1, giant = 0, giants = 1;
};

struct Request {
  Count number = 0;  // identifies the request in steps, if its span is not recorded
  Tokens text;       // the prompt and the answer so far
  Count prompt = 0, max_tokens = 0;
  Count leaves_at = 0;  // the step before which the client hangs up. 0: never

  std::unique_ptr<telemetry::Request> trace;
  Phase phase = kQueue;
  Clock::time_point since;  // when the phase began
  std::array<Count, 3> spent_ns{};
  Work work, before;   // in all phases, and in those before the current one
  Count computed = 0;  // how many tokens of the text were in the KV cache at some time
  Count cached = 0;    // tokens of the prompt that were there before the request
  Count preemptions = 0;
  std::vector<Count> accepted_at;  // by position in the draft

  Count size() const { return static_cast<Count>(text.size()); }
  Count output() const { return size() - prompt; }
};

// A sequence of libllama. It stays in the KV cache after its request, as a prefix for others.
struct Slot {
  llama_seq_id sequence = 0;
  Tokens cells;  // the tokens in the KV cache
  std::unique_ptr<Request> request;
  Count order = 0;  // counts the requests that got a slot
  Clock::time_point occupied, released;
  Count fed = 0;       // tokens of the text in the current step
  Tokens draft;        // the guessed tokens after them
  bool whole = false;  // the whole text is in the KV cache, so the next token can be read
  int logits = 0;      // the index in the batch of the last token that was fed

  Count size() const { return static_cast<Count>(cells.size()); }
};

Count common_prefix(const Tokens& a, const Tokens& b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

// Guesses the next tokens of a text: those that followed the last time that it had the same two tokens.
Tokens guess(const Tokens& text, Count count) {
  if (static_cast<Count>(text.size()) <= kShortestMatch || count == 0) return {};
  const auto found = std::find_end(text.begin(), text.end() - 1, text.end() - kShortestMatch, text.end());
  if (found == text.end() - 1) return {};
  const auto next = found + kShortestMatch;
  return Tokens(next, next + std::min<Count>(count, text.end() - next));
}

class LlamaEngine {
 public:
  // Loads the model. `books` gets the engine's own numbers, one JSON object per line, to compare them with a tracer's.
  LlamaEngine(const Options& options, std::ostream& books) : options_(options), books_(books) { load(); }
  ~LlamaEngine() { llama_batch_free(batch_); }
  LlamaEngine(const LlamaEngine&) = delete;
  LlamaEngine& operator=(const LlamaEngine&) = delete;

  // Serves all requests.
  void run() {
    for (bool done = false; !done;) {
      while (running() + waiting() < options_.clients && arrived_ < options_.requests) arrive();
      const Count came = arrived_ - options_.requests;
      if (options_.giant > 0 && came >= 0 && came < options_.giants && steps_ >= kGiantSteps[came]) arrive_giant();
      hang_up();
      admit();
      make_room();
      if (running() > 0) step();
      done = ended_ == std::max(options_.requests, arrived_);
      report(done);
    }
  }

 private:
  void load() {
    labels_ = {kEngineName, options_.model.substr(options_.model.find_last_of('/') + 1)};
    telemetry::Load loading(labels_);
    llama_model_params of_model = llama_model_default_params();
    of_model.n_gpu_layers = 0;
    model_.reset(llama_model_load_from_file(options_.model.c_str(), of_model));
    if (model_ == nullptr) throw std::runtime_error("cannot load the model " + options_.model);
    vocabulary_ = llama_model_get_vocab(model_.get());
    const auto in_a_step = static_cast<std::uint32_t>(options_.chunk + options_.slots * reserve());
    llama_context_params of_context = llama_context_default_params();
    of_context.n_ctx = static_cast<std::uint32_t>(options_.ctx);
    of_context.n_batch = of_context.n_ubatch = in_a_step;
    of_context.n_seq_max = static_cast<std::uint32_t>(options_.slots);
    of_context.n_threads = of_context.n_threads_batch = static_cast<std::int32_t>(options_.threads);
    of_context.kv_unified = true;  // so that sequences can share a prefix
    context_.reset(llama_init_from_model(model_.get(), of_context));
    if (context_ == nullptr) throw std::runtime_error("libllama cannot make a context for " + options_.model);
    memory_ = llama_get_memory(context_.get());
    batch_ = llama_batch_init(static_cast<std::int32_t>(in_a_step), 0, 1);
    slots_.resize(static_cast<std::size_t>(options_.slots));
    for (Slot& slot : slots_) slot.sequence = static_cast<llama_seq_id>(&slot - slots_.data());
    const auto bytes = static_cast<Count>(llama_model_size(model_.get()));
    loading.end(bytes);
    write({{"event", "load"}, {"bytes", bytes}});
  }

  void write(const Json& line) { books_ << line.dump() << '\n' << std::flush; }
  Count running() const {
    return std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.request != nullptr; });
  }
  Count waiting() const { return static_cast<Count>(waiting_.size()); }
  // Tokens that a step adds to a request that decodes.
  Count reserve() const { return 1 + options_.spec; }
  Count random(Count lowest, Count highest) { return std::uniform_int_distribution<Count>(lowest, highest)(random_); }

  // A new request arrives. Its prompt begins like those of others.
  void arrive() {
    auto request = std::make_unique<Request>();
    request->number = ++arrived_;
    request->prompt = random(options_.prompt / 2 + 1, options_.prompt);
    request->max_tokens = random(options_.output / 2 + 1, options_.output);
    std::minstd_rand shared(static_cast<unsigned>(1 + arrived_ % kPrefixes));
    std::uniform_int_distribution<llama_token> any(0, llama_vocab_n_tokens(vocabulary_) - 1);
    while (request->size() < options_.prompt / 2) request->text.push_back(any(shared));
    while (request->size() < request->prompt) request->text.push_back(any(random_));
    if (options_.cancel_every > 0 && arrived_ % options_.cancel_every == 0) {
      request->leaves_at = steps_ + random(1, options_.output);
    }
    take(std::move(request), "");
  }

  // A long prompt with one token of answer.
  void arrive_giant() {
    auto request = std::make_unique<Request>();
    request->number = ++arrived_;
    request->prompt = options_.giant;
    request->max_tokens = 1;
    std::minstd_rand own(static_cast<unsigned>(request->number));
    std::uniform_int_distribution<llama_token> any(0, llama_vocab_n_tokens(vocabulary_) - 1);
    while (request->size() < request->prompt) request->text.push_back(any(own));
    take(std::move(request), "giant");
  }

  void take(std::unique_ptr<Request> request, const char* tenant) {
    request->accepted_at.resize(static_cast<std::size_t>(options_.spec));
    request->trace = std::make_unique<telemetry::Request>(labels_, request->number, tenant);
    begin_phase(*request, kQueue, "capacity");
    waiting_.push_back(std::move(request));
  }

  static void begin_phase(Request& request, Phase phase, const char* reason = nullptr) {
    request.phase = phase;
    request.since = Clock::now();
    request.before = request.work;
    request.trace->begin_phase(phase, reason);
  }

  static void end_phase(Request& request, const char* cancelled = nullptr) {
    request.spent_ns[request.phase] += std::chrono::nanoseconds(Clock::now() - request.since).count();
    const Work &now = request.work, &before = request.before;
    Work work;
    work.cached = now.cached - before.cached;
    work.prefilled = now.prefilled - before.prefilled;
    work.recomputed = now.recomputed - before.recomputed;
    work.decoded = now.decoded - before.decoded;
    work.drafts = now.drafts - before.drafts;
    work.drafted = now.drafted - before.drafted;
    work.accepted = now.accepted - before.accepted;
    request.trace->end_phase(request.phase, work, cancelled);
  }

  // Ends a request. `cancelled` is the reason if its client is gone.
  void end(Request& request, const char* finish_reason, const char* cancelled = nullptr) {
    end_phase(request, cancelled);
    const Work& work = request.work;
    request.trace->end({request.prompt, request.output(), request.cached, request.preemptions, request.max_tokens, work,
                        request.spent_ns, request.accepted_at, finish_reason},
                       cancelled);
    ++ended_;
    Json line{{"request", request.number}, {"finish_reason", finish_reason}};
    line["input_tokens"] = request.prompt;
    line["output_tokens"] = request.output();
    line["cached_tokens"] = request.cached;
    line["prefill_tokens"] = work.prefilled - work.recomputed;
    line["recomputed_tokens"] = work.recomputed;
    line["prompt_chunks"] = work.chunks;
    line["decode_tokens"] = work.decoded;
    line["preemptions"] = request.preemptions;
    line["drafts"] = work.drafts;
    line["drafted_tokens"] = work.drafted;
    line["accepted_tokens"] = work.accepted;
    line["accepted_by_position"] = request.accepted_at;
    line["queue_ns"] = request.spent_ns[kQueue];
    line["prefill_ns"] = request.spent_ns[kPrefill];
    line["decode_ns"] = request.spent_ns[kDecode];
    write(line);
  }

  // Cancels the requests whose clients hang up now, in whichever phase they are.
  void hang_up() {
    const auto leaves = [this](const Request& request) { return request.leaves_at > 0 && request.leaves_at <= steps_; };
    for (Slot& slot : slots_) {
      if (slot.request != nullptr && leaves(*slot.request)) release(slot, "cancelled", kCancelled);
    }
    for (auto& request : waiting_) {
      if (!leaves(*request)) continue;
      end(*request, "cancelled", kCancelled);
      request.reset();
    }
    waiting_.erase(std::remove(waiting_.begin(), waiting_.end(), nullptr), waiting_.end());
  }

  void release(Slot& slot, const char* finish_reason, const char* cancelled = nullptr) {
    end(*slot.request, finish_reason, cancelled);
    slot.request.reset();
    slot.released = Clock::now();
  }

  void truncate(Slot& slot, Count tokens) {
    llama_memory_seq_rm(memory_, slot.sequence, static_cast<llama_pos>(tokens), -1);
    slot.cells.resize(static_cast<std::size_t>(tokens));
  }

  // Gives the free slots to requests that have room for all of their text.
  void admit() {
    Count needed = 0, served = running();
    for (const Slot& slot : slots_) {
      if (slot.request != nullptr) needed += slot.request->size() + reserve();
    }
    while (served < options_.slots && !waiting_.empty()) {
      needed += waiting_.front()->size() + reserve();
      if (needed > options_.ctx && served > 0) return;
      occupy(std::move(waiting_.front()));
      waiting_.pop_front();
      ++served;
    }
  }

  // Gives a free slot to a request, with as much of its text as is in the KV cache. If another request's slot has that
  // text, both share it.
  void occupy(std::unique_ptr<Request> request) {
    Slot *source = nullptr, *target = nullptr;
    Count hit = 0;
    for (Slot& slot : slots_) {
      // The last token is always computed again, because the next one follows from it.
      const Count length = std::min(common_prefix(slot.cells, request->text), request->size() - 1);
      if (length > hit) {
        source = &slot;
        hit = length;
      }
      if (slot.request == nullptr && (target == nullptr || slot.released < target->released)) target = &slot;
    }
    if (source != nullptr && source->request == nullptr) target = source;
    if (target != source && !target->cells.empty()) evict(*target);
    if (target == source) {
      truncate(*target, hit);
    } else if (source != nullptr) {
      llama_memory_seq_cp(memory_, source->sequence, target->sequence, 0, static_cast<llama_pos>(hit));
      target->cells.assign(source->cells.begin(), source->cells.begin() + hit);
    }
    request->trace->prefix_cache(request->size(), hit);
    write({{"event", "prefix_cache"}, {"queried_tokens", request->size()}, {"hit_tokens", hit}});
    if (request->preemptions == 0) request->cached = hit;
    end_phase(*request);
    begin_phase(*request, kPrefill);
    request->work.cached += hit;
    request->computed = std::max(request->computed, hit);
    target->request = std::move(request);
    target->order = ++orders_;
    target->occupied = Clock::now();
  }

  // Makes room in the KV cache for the next step. Tokens that slots share count for each of them.
  void make_room() {
    for (;;) {
      Count needed = 0, of_prompts = 0;
      Slot *idle = nullptr, *latest = nullptr;
      for (Slot& slot : slots_) {
        needed += slot.size();
        if (slot.request != nullptr) {
          needed += reserve();
          of_prompts += slot.request->size() - slot.size();
          if (latest == nullptr || slot.order > latest->order) latest = &slot;
        } else if (slot.size() > 0 && (idle == nullptr || slot.released < idle->released)) {
          idle = &slot;
        }
      }
      if (needed + std::min(of_prompts, options_.chunk) <= options_.ctx) return;
      if (idle != nullptr) {
        evict(*idle);
      } else {
        preempt(*latest);
      }
    }
  }

  // Forgets the text of a free slot.
  void evict(Slot& slot) {
    const Clock::time_point now = Clock::now();
    telemetry::evicted(labels_, slot.size(), now - slot.occupied, now - slot.released);
    write({{"event", "evicted"}, {"tokens", slot.size()}});
    truncate(slot, 0);
  }

  // Takes the slot from its request, which waits in front of the queue. Its tokens are computed again later.
  void preempt(Slot& slot) {
    end_phase(*slot.request);
    slot.request->trace->preempted(slot.size());
    write({{"event", "preempted"}, {"tokens", slot.size()}});
    ++slot.request->preemptions;
    begin_phase(*slot.request, kQueue, "preempted");
    truncate(slot, 0);
    waiting_.push_front(std::move(slot.request));
  }

  // One forward pass for the requests in the slots.
  void step() {
    ++steps_;
    batch_.n_tokens = 0;
    telemetry::Step trace(labels_);
    Count budget = options_.chunk, prefilled = 0, decoded = 0, drafted = 0, accepted = 0, size = 0;
    for (Slot& slot : slots_) {
      if (slot.request != nullptr) feed(slot, budget);
    }
    const std::chrono::nanoseconds start = device_now();
    if (llama_decode(context_.get(), batch_) != 0) throw std::runtime_error("llama_decode() failed");
    llama_synchronize(context_.get());
    const std::chrono::nanoseconds device = device_now() - start;
    const Count cells = cells_used();
    for (Slot& slot : slots_) {
      if (slot.request == nullptr || slot.fed == 0) continue;
      const telemetry::Member member = advance(slot, trace);
      ++size;
      prefilled += member.prefill_tokens;
      decoded += member.decode_tokens;
      drafted += member.drafted_tokens;
      accepted += member.accepted_tokens;
    }
    trace.end({steps_, size, prefilled, decoded, options_.chunk, cells, device});
    generated_ += decoded;
    Json line{{"step", steps_}, {"batch_size", size}, {"prefill_tokens", prefilled}, {"decode_tokens", decoded}};
    line["drafted_tokens"] = drafted;
    line["accepted_tokens"] = accepted;
    write(line);
  }

  // The device is the CPU. If one thread computes, its own clock does not count what other programs did meanwhile.
  std::chrono::nanoseconds device_now() const {
    timespec now{};
    clock_gettime(options_.threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
  }

  void push(Slot& slot, llama_token token, bool wants_logits) {
    const int i = batch_.n_tokens++;
    batch_.token[i] = token;
    batch_.pos[i] = static_cast<llama_pos>(slot.size());
    batch_.n_seq_id[i] = 1;
    batch_.seq_id[i][0] = slot.sequence;
    batch_.logits[i] = wants_logits ? 1 : 0;
    slot.cells.push_back(token);
  }

  // Adds the request's next tokens to the batch: a chunk of its text, or its last token and a draft.
  void feed(Slot& slot, Count& budget) {
    const Request& request = *slot.request;
    const Count left = request.size() - slot.size();
    slot.fed = request.phase == kPrefill ? std::min(left, budget) : left;
    slot.whole = slot.fed == left;
    slot.draft.clear();
    if (request.phase == kPrefill) {
      budget -= slot.fed;
    } else {
      slot.draft = guess(request.text, std::min(options_.spec, request.max_tokens - request.output() - 1));
    }
    for (Count i = 1; i <= slot.fed; ++i) {
      slot.logits = batch_.n_tokens;
      push(slot, request.text[slot.cells.size()], slot.whole && i == slot.fed);
    }
    for (const llama_token token : slot.draft) push(slot, token, true);
  }

  // Counts what the step did for a request, and reads the request's next tokens.
  telemetry::Member advance(Slot& slot, telemetry::Step& step) {
    Request& request = *slot.request;
    Work& work = request.work;
    telemetry::Member member;
    const Count after = slot.size() - static_cast<Count>(slot.draft.size()), before = after - slot.fed;
    member.context_tokens = static_cast<std::uint32_t>(before);
    if (request.phase == kPrefill) {
      member.prefill_tokens = static_cast<std::uint32_t>(slot.fed);
      work.prefilled += slot.fed;
      work.recomputed += std::min(after, std::max(request.computed, before)) - before;
      ++work.chunks;
    }
    request.computed = std::max(request.computed, after);
    if (!slot.whole) {
      step.add(*request.trace, member);
      return member;
    }
    const char* finished = nullptr;
    bool accepted = true;
    for (std::size_t i = 0; accepted && finished == nullptr; ++i) {
      const llama_token token = likeliest(slot.logits + static_cast<int>(i));
      accepted = i < slot.draft.size() && token == slot.draft[i];
      if (accepted) {
        ++request.accepted_at[i];
        ++member.accepted_tokens;
      }
      ++member.decode_tokens;
      request.text.push_back(token);
      request.trace->token();
      if (request.output() == request.max_tokens) finished = "length";
      if (llama_vocab_is_eog(vocabulary_, token)) finished = "stop";
    }
    truncate(slot, request.size() - 1);  // forgets the wrong tokens of the draft
    member.drafted_tokens = static_cast<std::uint16_t>(slot.draft.size());
    work.drafts += slot.draft.empty() ? 0 : 1;
    work.drafted += member.drafted_tokens;
    work.accepted += member.accepted_tokens;
    if (request.phase == kDecode) work.decoded += member.decode_tokens;
    step.add(*request.trace, member);
    if (finished != nullptr) {
      release(slot, finished);
    } else if (request.phase == kPrefill) {
      end_phase(request);
      begin_phase(request, kDecode);
    }
    return member;
  }

  llama_token likeliest(int index) {
    const float* logits = llama_get_logits_ith(context_.get(), index);
    return static_cast<llama_token>(std::max_element(logits, logits + llama_vocab_n_tokens(vocabulary_)) - logits);
  }

  Count cells_used() const {
    Count used = 0;
    for (const Slot& slot : slots_) used += slot.size();
    return used;
  }

  // Reports the gauges and counters, ten times a second and at the end.
  void report(bool last) {
    if (!last && Clock::now() - reported_ < kReportInterval) return;
    reported_ = Clock::now();
    telemetry::report(labels_, {running(), waiting(), cells_used(), options_.ctx, ended_, generated_});
  }

  const Options& options_;
  std::ostream& books_;
  std::mt19937 random_;
  telemetry::Labels labels_;
  llama_model_ptr model_;
  llama_context_ptr context_;  // freed before the model
  const llama_vocab* vocabulary_ = nullptr;
  llama_memory_t memory_ = nullptr;
  llama_batch batch_{};
  std::vector<Slot> slots_;
  std::deque<std::unique_ptr<Request>> waiting_;
  Count arrived_ = 0, ended_ = 0, generated_ = 0, steps_ = 0, orders_ = 0;
  Clock::time_point reported_;
};

void declare_options(CLI::App& app, Options& options) {
  const auto add = [&](const char* name, Count& value, Count lowest, Count highest, const char* what) {
    app.add_option(name, value, what)->check(CLI::Range(lowest, highest))->capture_default_str();
  };
  app.add_option("--model", options.model, "a model in the format GGUF")->required()->check(CLI::ExistingFile);
  app.add_option("--books", options.books, "file for the engine's own numbers, one JSON object per line");
  add("--slots", options.slots, 1, static_cast<Count>(llama_max_parallel_sequences()), "requests in one step");
  add("--requests", options.requests, 1, 1 << 24, "requests to serve");
  add("--clients", options.clients, 0, 1 << 20, "requests that run or wait at the same time; 0: twice --slots");
  add("--prompt", options.prompt, 2, 1 << 16, "tokens of the longest prompt");
  add("--output", options.output, 1, 1 << 16, "tokens of the longest answer");
  add("--chunk", options.chunk, 1, 1 << 16, "tokens of prompts that one step processes at most");
  add("--ctx", options.ctx, 0, 1 << 24,
      "tokens in the KV cache; without room, requests are preempted; 0: enough for all");
  add("--spec", options.spec, 0, 64, "tokens that are guessed for a request and verified in one step; 0: none");
  add("--cancel-every", options.cancel_every, 0, 1 << 24, "of so many requests, one is cancelled; 0: none");
  add("--giant", options.giant, 0, 1 << 20, "tokens of a prompt that arrives while the others decode; 0: none");
  add("--giants", options.giants, 1, 3, "how many of these; the first two at nearly the same time");
  add("--threads", options.threads, 1, 512, "threads of libllama");
}

void log_errors(ggml_log_level level, const char* text, void*) {
  if (level == GGML_LOG_LEVEL_ERROR) std::cerr << text;
}

int fail(const std::string& error, int status) {
  std::cerr << "engine_llama: " << error << "\n";
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  llama_log_set(log_errors, nullptr);
  Options options;
  CLI::App app("A small inference engine on libllama, traced by nopspan.", "engine_llama");
  declare_options(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const Count one = options.prompt + options.output + 1 + options.spec;
  if (options.clients == 0) options.clients = 2 * options.slots;
  if (options.ctx == 0) options.ctx = options.slots * one + options.giants * options.giant;
  if (options.ctx < one) return fail("--ctx must be at least " + std::to_string(one) + ", for one request", 2);
  std::ofstream books;
  if (!options.books.empty()) books.open(options.books);
  if (!books) return fail("cannot write " + options.books, 2);
  ggml_backend_load_all();
  std::unique_ptr<LlamaEngine> llama;
  try {
    llama = std::make_unique<LlamaEngine>(options, books);
    llama->run();
  } catch (const std::exception& error) {
    return fail(error.what(), llama == nullptr ? 2 : 1);
  }
  if (!options.books.empty() && !books) return fail("cannot write all of " + options.books, 1);
  return 0;
}
