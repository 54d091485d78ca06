// SPDX-License-Identifier: Apache-2.0
// The names in the semantic conventions, and their renames between versions.
#include "recorded.h"

#include <nopspan/semconv.h>

#include <algorithm>
#include <iterator>
#include <string_view>

namespace {

using nopspan::Semconv;
namespace semconv = nopspan::semconv;

static_assert(semconv::renamed(semconv::gen_ai_usage_cache_creation_input_tokens, Semconv::next) ==
              "gen_ai.usage.cache_write.input_tokens");

TEST(Semconv, RenamesWhatTheNextConventionsRename) {
  const auto next = [](std::string_view key) { return semconv::renamed(key, Semconv::next); };
  EXPECT_EQ(next("gen_ai.usage.cache_creation.input_tokens"), "gen_ai.usage.cache_write.input_tokens");
  EXPECT_EQ(next("gen_ai.request.reasoning.effort"), "gen_ai.request.reasoning.level");
  for (const std::string_view same : {"gen_ai.usage.input_tokens", "gen_ai.request.top_k", "", "application.key"}) {
    EXPECT_EQ(next(same), same);
  }
}

TEST(Semconv, DoesNotRenameTypesOfSpans) {  // genai#521 is not known to be merged
  for (const std::string_view type :
       {"gen_ai.inference.client", "gen_ai.embeddings.client", "gen_ai.execute_tool.internal"}) {
    EXPECT_EQ(semconv::renamed(type, Semconv::next), type);
  }
}

TEST(Semconv, RenamesTheTopKOfARetrievalOnly) {
  const auto top_k = [](std::string_view operation, Semconv version) {
    return semconv::renamed(semconv::gen_ai_request_top_k, version, operation);
  };
  EXPECT_EQ(top_k("retrieval", Semconv::next), "gen_ai.retrieval.top_k");
  EXPECT_EQ(top_k("chat", Semconv::next), "gen_ai.request.top_k");
  EXPECT_EQ(top_k("retrieval", Semconv::v1_41), "gen_ai.request.top_k");
}

TEST(Semconv, RenamesNothingByDefault) {
  for (const auto& rename : semconv::detail::renames) {
    EXPECT_EQ(semconv::renamed(rename.v1_41, Semconv::v1_41), rename.v1_41);
    EXPECT_EQ(semconv::renamed(rename.next, Semconv::next), rename.next);  // a new name is not renamed again
  }
}

TEST(Semconv, HasBoundariesThatRise) {
  const auto rises = [](const auto& boundaries) {
    return std::adjacent_find(std::begin(boundaries), std::end(boundaries), std::greater_equal<>()) ==
           std::end(boundaries);
  };
  EXPECT_TRUE(rises(semconv::metric::duration_boundaries));
  EXPECT_TRUE(rises(semconv::metric::token_boundaries));
  EXPECT_TRUE(rises(semconv::metric::server_time_per_output_token_boundaries));
  EXPECT_TRUE(rises(semconv::metric::server_time_to_first_token_boundaries));
  EXPECT_TRUE(rises(semconv::metric::call_boundaries));
  EXPECT_TRUE(rises(semconv::metric::invoke_agent_duration_boundaries));
  EXPECT_TRUE(rises(semconv::metric::invoke_workflow_duration_boundaries));
  EXPECT_TRUE(rises(semconv::metric::mcp_duration_boundaries));
  EXPECT_EQ(std::size(semconv::metric::call_boundaries), 8U);
  EXPECT_EQ(std::size(semconv::metric::invoke_agent_duration_boundaries), 13U);
  EXPECT_EQ(std::size(semconv::metric::invoke_workflow_duration_boundaries), 11U);
  EXPECT_EQ(std::size(semconv::metric::mcp_duration_boundaries), 14U);
  EXPECT_EQ(std::size(semconv::metric::duration_boundaries), 14U);
  EXPECT_EQ(std::size(semconv::metric::token_boundaries), 14U);
  EXPECT_EQ(std::size(semconv::metric::server_time_per_output_token_boundaries), 13U);
  EXPECT_EQ(std::size(semconv::metric::server_time_to_first_token_boundaries), 16U);
}

}  // namespace
