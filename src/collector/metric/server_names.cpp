// SPDX-License-Identifier: Apache-2.0
#include "metric/server_names.h"

#include <span>

namespace nopspan::collector {
namespace {

// The server's name is unchanged. The bounds are the server's.
struct ServerMetric {
  const char* name;
  const char* help;
  MetricType type;
  EngineFact fact;
  std::span<const double> bounds = {};
  const char* by = "";  // the name of the label that the fact is by
};

constexpr MetricType kCounter = MetricType::counter, kGauge = MetricType::gauge, kHistogram = MetricType::histogram;

namespace vllm {

constexpr double kFirstToken[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                                  1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
constexpr double kPerToken[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                                0.75, 1,     2.5,  5,     7.5, 10,   20,  40,  80};
constexpr double kRequest[] = {0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                               30,  40,  50,  60, 120, 240, 480, 960, 1920, 7680};
// vLLM ends this row at the model's length, which is not known here.
constexpr double kTokens[] = {1,    2,    5,    10,    20,    50,    100,    200,    500,
                              1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000};
constexpr double kStepTokens[] = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
constexpr double kChoices[] = {1, 2, 5, 10, 20};

constexpr ServerMetric kMetrics[] = {
    {"vllm:num_requests_running", "Requests in batches.", kGauge, EngineFact::running},
    {"vllm:num_requests_waiting", "Requests that wait.", kGauge, EngineFact::waiting},
    {"vllm:num_requests_waiting_by_reason",
     "Requests that wait, by reason.",
     kGauge,
     EngineFact::waiting_by_reason,
     {},
     "reason"},
    {"vllm:num_requests_swapped", "Requests whose blocks are in another memory.", kGauge, EngineFact::swapped},
    {"vllm:kv_cache_usage_perc", "Share of the KV cache in use. 1 is all of it.", kGauge, EngineFact::kv_cache_usage},
    {"vllm:gpu_cache_usage_perc", "The same, under the name of earlier versions.", kGauge, EngineFact::kv_cache_usage},
    {"vllm:num_preemptions_total", "Preemptions.", kCounter, EngineFact::preempted},
    {"vllm:prompt_tokens_total", "Prompt tokens of requests that ended.", kCounter, EngineFact::input_tokens},
    {"vllm:prompt_tokens_cached_total", "Prompt tokens that came from a cache.", kCounter, EngineFact::cached_tokens},
    {"vllm:prompt_tokens_recomputed_total", "Prompt tokens that were computed again.", kCounter,
     EngineFact::recomputed_tokens},
    {"vllm:generation_tokens_total", "Generated tokens of requests that ended.", kCounter, EngineFact::output_tokens},
    {"vllm:request_success_total",
     "Requests that ended, by finish reason.",
     kCounter,
     EngineFact::requests,
     {},
     "finished_reason"},
    {"vllm:prefix_cache_queries_total", "Tokens that were looked up in the prefix cache.", kCounter,
     EngineFact::queried_tokens},
    {"vllm:prefix_cache_hits_total", "Tokens that were found in the prefix cache.", kCounter, EngineFact::hit_tokens},
    {"vllm:external_prefix_cache_queries_total", "Tokens that were looked up in external prefix caches.", kCounter,
     EngineFact::external_queried_tokens},
    {"vllm:external_prefix_cache_hits_total", "Tokens that were found in external prefix caches.", kCounter,
     EngineFact::external_hit_tokens},
    {"vllm:spec_decode_num_drafts_total", "Drafts.", kCounter, EngineFact::drafts},
    {"vllm:spec_decode_num_draft_tokens_total", "Drafted tokens.", kCounter, EngineFact::drafted_tokens},
    {"vllm:spec_decode_num_accepted_tokens_total", "Accepted drafted tokens.", kCounter, EngineFact::accepted_tokens},
    {"vllm:time_to_first_token_seconds", "Times to the first token.", kHistogram, EngineFact::first_token_s,
     kFirstToken},
    {"vllm:inter_token_latency_seconds", "Times between tokens.", kHistogram, EngineFact::token_gap_s, kPerToken},
    {"vllm:time_per_output_token_seconds", "The same, under the name of earlier versions.", kHistogram,
     EngineFact::token_gap_s, kPerToken},
    {"vllm:request_time_per_output_token_seconds", "Mean times between tokens, by request.", kHistogram,
     EngineFact::per_token_s, kPerToken},
    {"vllm:e2e_request_latency_seconds", "Durations of requests.", kHistogram, EngineFact::e2e_s, kRequest},
    {"vllm:request_queue_time_seconds", "Times that requests waited.", kHistogram, EngineFact::queue_s, kRequest},
    {"vllm:request_prefill_time_seconds", "Times of requests' prefill.", kHistogram, EngineFact::prefill_s, kRequest},
    {"vllm:request_decode_time_seconds", "Times of requests' decode.", kHistogram, EngineFact::decode_s, kRequest},
    {"vllm:request_inference_time_seconds", "Times of requests' prefill and decode.", kHistogram,
     EngineFact::inference_s, kRequest},
    {"vllm:request_prompt_tokens", "Prompt tokens, by request.", kHistogram, EngineFact::input_tokens, kTokens},
    {"vllm:request_generation_tokens", "Generated tokens, by request.", kHistogram, EngineFact::output_tokens, kTokens},
    {"vllm:request_prefill_kv_computed_tokens", "Prompt tokens that came from no cache, by request.", kHistogram,
     EngineFact::computed_tokens, kTokens},
    {"vllm:request_params_max_tokens", "Requests' max_tokens.", kHistogram, EngineFact::max_tokens, kTokens},
    {"vllm:request_params_n", "Requests' n.", kHistogram, EngineFact::choices, kChoices},
    {"vllm:iteration_tokens_total", "Tokens, by step.", kHistogram, EngineFact::step_tokens, kStepTokens},
};

}  // namespace vllm

namespace sglang {

constexpr double kFirstToken[] = {0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400};
constexpr double kRequest[] = {0.1, 0.2, 0.4, 0.6, 0.8, 1,   2,   4,   6,    8,    10,
                               20,  40,  60,  80,  100, 200, 400, 600, 1200, 1800, 2400};
constexpr double kTokenGap[] = {0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06,
                                0.08,  0.1,   0.2,   0.4,   0.6,  0.8,   1,    2,     4,    6,     8};
constexpr double kQueue[] = {0,   0.1, 0.2, 0.5, 1,    2,    3,    4,    5,    10,   15,   20,
                             30,  40,  50,  60,  70,   80,   90,   100,  200,  300,  400,  500,
                             600, 700, 800, 900, 1000, 1200, 1400, 1600, 1800, 2000, 2500, 3000};
constexpr double kRetractions[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 75, 100};

constexpr ServerMetric kMetrics[] = {
    {"sglang:num_running_reqs", "Requests in batches.", kGauge, EngineFact::running},
    {"sglang:num_queue_reqs", "Requests that wait.", kGauge, EngineFact::waiting},
    {"sglang:token_usage", "Share of the KV cache in use. 1 is all of it.", kGauge, EngineFact::kv_cache_usage},
    {"sglang:num_retracted_requests_total", "Preemptions.", kCounter, EngineFact::preempted},
    {"sglang:prompt_tokens_total", "Prompt tokens of requests that ended.", kCounter, EngineFact::input_tokens},
    {"sglang:generation_tokens_total", "Generated tokens of requests that ended.", kCounter, EngineFact::output_tokens},
    {"sglang:cached_tokens_total",
     "Prompt tokens that came from a cache, by source.",
     kCounter,
     EngineFact::cached_by_source,
     {},
     "cache_source"},
    {"sglang:num_requests_total", "Requests that ended.", kCounter, EngineFact::finished},
    {"sglang:num_aborted_requests_total", "Requests that were cancelled.", kCounter, EngineFact::aborted},
    {"sglang:time_to_first_token_seconds", "Times to the first token.", kHistogram, EngineFact::first_token_s,
     kFirstToken},
    {"sglang:inter_token_latency_seconds", "Times between tokens.", kHistogram, EngineFact::token_gap_s, kTokenGap},
    {"sglang:e2e_request_latency_seconds", "Durations of requests.", kHistogram, EngineFact::e2e_s, kRequest},
    {"sglang:queue_time_seconds", "Times that requests waited.", kHistogram, EngineFact::queue_s, kQueue},
    {"sglang:num_retractions", "Preemptions, by request.", kHistogram, EngineFact::preemptions, kRetractions},
};

}  // namespace sglang

namespace llamacpp {

constexpr ServerMetric kMetrics[] = {
    {"llamacpp:prompt_tokens_total", "Prompt tokens that came from no cache.", kCounter, EngineFact::computed_tokens},
    {"llamacpp:prompt_tokens_cached_total", "Prompt tokens that came from a cache.", kCounter,
     EngineFact::cached_tokens},
    {"llamacpp:prompt_seconds_total", "Time of requests' prefill.", kCounter, EngineFact::prefill_s},
    {"llamacpp:tokens_predicted_total", "Generated tokens of requests that ended.", kCounter,
     EngineFact::output_tokens},
    {"llamacpp:tokens_predicted_seconds_total", "Time of requests' decode.", kCounter, EngineFact::decode_s},
    {"llamacpp:n_decode_total", "Steps.", kCounter, EngineFact::steps},
    {"llamacpp:requests_processing", "Requests in slots.", kGauge, EngineFact::running},
    {"llamacpp:requests_deferred", "Requests that wait.", kGauge, EngineFact::waiting},
    {"llamacpp:spec_decode_num_drafts_total", "Drafts.", kCounter, EngineFact::drafts},
    {"llamacpp:spec_decode_num_draft_tokens_total", "Drafted tokens.", kCounter, EngineFact::drafted_tokens},
    {"llamacpp:spec_decode_num_accepted_tokens_total", "Accepted drafted tokens.", kCounter,
     EngineFact::accepted_tokens},
};

}  // namespace llamacpp

std::span<const ServerMetric> metrics_of(ServerNames names) {
  switch (names) {
    case ServerNames::vllm:
      return vllm::kMetrics;
    case ServerNames::sglang:
      return sglang::kMetrics;
    case ServerNames::llamacpp:
      return llamacpp::kMetrics;
    case ServerNames::none:
      break;
  }
  return {};
}

}  // namespace

ServerMetrics::ServerMetrics(MetricRegistry& registry, ServerNames names) {
  const auto metrics = metrics_of(names);
  if (metrics.empty()) return;
  has_model_ = names != ServerNames::llamacpp;  // llama.cpp's metrics have no labels
  by_fact_.resize(static_cast<std::size_t>(EngineFact::count));
  for (const ServerMetric& metric : metrics) {
    // A gauge has the process too, because the values of two processes cannot be added up here.
    std::vector<std::string> labels = {has_model_ ? "model_name" : "", has_model_ ? "engine" : "", "service_name",
                                       metric.type == kGauge ? "process_pid" : "", metric.by};
    MetricFamily& family = registry.family({.name = metric.name,
                                            .help = metric.help,
                                            .type = metric.type,
                                            .labels = std::move(labels),
                                            .bounds = {metric.bounds.begin(), metric.bounds.end()},
                                            .is_foreign = true});
    by_fact_[static_cast<std::size_t>(metric.fact)].push_back({&family, metric.type});
  }
}

void ServerMetrics::add(MetricWriter& writer, EngineFact fact, double value, const EngineLabels& of,
                        std::string_view by, const Exemplar* exemplar, std::uint64_t times) {
  if (by_fact_.empty()) return;
  for (const Metric& metric : by_fact_[static_cast<std::size_t>(fact)]) {
    const std::string_view labels[] = {has_model_ ? of.model : std::string_view(),
                                       has_model_ ? of.engine : std::string_view(), of.service,
                                       metric.type == kGauge ? of.pid : std::string_view(), by};
    if (metric.type == kCounter) {
      writer.add(*metric.family, value * static_cast<double>(times), labels);
    } else if (metric.type == kGauge) {
      writer.gauge(*metric.family, value, labels);
    } else {
      writer.observe(*metric.family, value, labels, exemplar, times);
    }
  }
}

}  // namespace nopspan::collector
