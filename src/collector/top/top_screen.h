// SPDX-License-Identifier: Apache-2.0
// `nopspan top` on a terminal: draws the table and handles keys.
#pragma once

#include "base/terminal.h"
#include "top/top_runner.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace nopspan::collector {

// Runs until q or a signal, then prints the ledger to stderr.
void show_top(TopOptions options, bool color, std::unique_ptr<Source> source, TopRunner::ReadSource read);

// The state of the screen, and the effect of each key.
class TopScreen {
 public:
  TopScreen(Terminal& terminal, TopRunner& runner, const TopOptions& options);

  // Shows the snapshot unless paused. Returns whether it is a new one.
  bool take(const TopSnapshotPointer& snapshot);
  void draw();
  // Handles a key. Returns false if the user quits.
  bool type(std::uint32_t key);

 private:
  enum class Mode : std::uint8_t { table, help, gauges, detail };

  // Returns the number of lines that it has drawn. A tall screen may have more than `lines`.
  std::size_t draw_head(std::size_t lines);
  [[nodiscard]] std::string state_text() const;
  void draw_table(std::size_t first_line, std::size_t lines);
  [[nodiscard]] std::vector<std::string> engine_lines() const;  // what engines counted, and their gauges
  [[nodiscard]] std::string empty_text() const;
  void draw_row(std::size_t line, const RowNumbers& row, bool is_selected);
  void draw_foot(std::size_t line);
  void draw_lines(const std::vector<std::string>& texts, std::size_t first_line, std::size_t room,
                  std::size_t indent = 2);
  [[nodiscard]] std::vector<std::string> detail_lines(std::size_t room) const;

  void type_filter(std::uint32_t key);
  void type_panel(std::uint32_t key);
  bool type_table(std::uint32_t key);
  // Moves a position between 0 and `last`. False if the key is for something else.
  bool scroll(std::uint32_t key, std::size_t& at, std::size_t last) const;
  void sort_by_neighbour(int step);
  void group_by_next();
  void change_interval(int step);
  void open_detail();
  void show(const TopSnapshotPointer& snapshot);
  void arrange();

  Terminal& terminal_;
  TopRunner& runner_;
  TopRequest request_;
  TopView view_;
  std::string filter_text_;     // of the filter options
  std::uint64_t buffer_bytes_;  // 0: the source has no buffer
  bool is_recording_;

  Mode mode_ = Mode::table;
  TopSnapshotPointer shown_, newest_;    // they differ while paused
  std::vector<const RowNumbers*> rows_;  // of `shown_`, in the order of the view
  TopLayout layout_;
  std::size_t selected_ = 0, first_row_ = 0, page_ = 1;
  std::size_t scrolled_ = 0, most_scrolled_ = 0;  // lines scrolled in help and gauges
  bool paused_ = false, is_filtering_ = false;
  std::optional<RowDetail> detail_;
};

}  // namespace nopspan::collector
