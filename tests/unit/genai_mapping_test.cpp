// SPDX-License-Identifier: Apache-2.0
// The mapping over a live span's fields, which are flat and of every kind.
#include "genai/genai_mapping.h"

#include "recorded.h"

#include <string>

namespace {

using nopspan::detail::copy_value;
using nopspan::detail::FieldBuffer;
using nopspan::detail::Key;
using nopspan::detail::Metadata;
using nopspan::detail::Node;

// Everything that the mapping reports to its Out, as lines of text.
struct Lines {
  std::string text_of_all;

  void add(std::string_view key, const std::string& value) { text_of_all += std::string(key) + "=" + value + "\n"; }
  void text(std::string_view key, std::string_view value, bool content = false) {
    add(key, std::string(value) + (content ? " (content)" : ""));
  }
  void integer(std::string_view key, std::int64_t value) { add(key, std::to_string(value)); }
  void real(std::string_view key, double value) { add(key, Value(value).to_string()); }
  void texts(std::string_view key, const std::string_view* values, std::size_t count) {
    add(key, Value(Value::List(values, values + count)).to_string());
  }
  void node(std::string_view key, const Node& node) {
    if (node.entry() != nullptr) return add(key, copy_value(*node.entry()).to_string());
    add(key, node.value() != nullptr ? node.value()->to_string() : std::string(node.as_string()));
  }
};

TEST(GenAiMapping, ReadsTheFlatFieldsOfALiveSpan) {
  FieldBuffer fields;
  EXPECT_TRUE(fields.put_string("model", "gpt-5", 0));
  EXPECT_TRUE(fields.put_value("stop", Value::list({"a", "b"}), 0));
  EXPECT_TRUE(fields.put_value("none", Value::list(), 0));
  const Value tokens = Value::map({{"input", 4}, {"output", 5}});
  EXPECT_TRUE(fields.put_value("usage", Value::map({{"tokens", tokens}, {"total_cost", 0.5}}), 0));
  Metadata metadata;
  metadata[Key::operation] = Node(std::string_view("chat"));
  metadata[Key::model] = Node(fields.find("model", false));
  metadata[Key::stop_sequences] = Node(fields.find("stop", false));
  metadata[Key::encoding_formats] = Node(fields.find("none", false));
  metadata[Key::usage] = Node(fields.find("usage", false));
  metadata[Key::output_tokens] = Node(std::int64_t{6});
  metadata[Key::response_id] = Node(std::string_view("r"));
  metadata[Key::mode] = Node(std::string_view("stream"));
  metadata[Key::time_to_first_chunk] = Node(std::int64_t{1500000});
  nopspan::detail::spread_usage(metadata);
  EXPECT_EQ(metadata[Key::output_tokens].as_int(), 6);  // fields outside the map take precedence

  Lines start;
  nopspan::detail::map_start(metadata, start);
  EXPECT_EQ(start.text_of_all,
            "gen_ai.operation.name=chat\ngen_ai.request.model=\"gpt-5\"\ngen_ai.output.type=text\n"
            "gen_ai.request.stop_sequences=[\"a\",\"b\"]\n");
  metadata[Key::output_tokens] = Node();
  Lines terminal;
  nopspan::detail::map_terminal(metadata, terminal);
  EXPECT_EQ(terminal.text_of_all,
            "gen_ai.usage.input_tokens=4\ngen_ai.usage.cost=0.5\ngen_ai.response.id=r\n"
            "gen_ai.response.model=\"gpt-5\"\ngen_ai.response.time_to_first_chunk=0.0015\n");
}

TEST(GenAiMapping, MarksTheMessageOfAnExceptionAsContent) {
  FieldBuffer fields;
  EXPECT_TRUE(fields.put_value("reason", Value::map({{"type", "T"}, {"message", "m"}}), 0));
  Metadata metadata;
  metadata[Key::error] = Node(fields.find("reason", false));
  Lines out;
  nopspan::detail::map_exception_event(metadata, out);
  EXPECT_EQ(out.text_of_all, "exception.type=T\nexception.message=m (content)\n");
}

}  // namespace
