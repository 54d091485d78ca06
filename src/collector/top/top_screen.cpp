// SPDX-License-Identifier: Apache-2.0
#include "top/top_screen.h"

#include "base/cells.h"
#include "base/stopping.h"
#include "base/text.h"
#include "base/text_output.h"
#include "top/top_print.h"

#include <algorithm>
#include <iterator>
#include <string_view>

namespace nopspan::collector {

namespace {

constexpr std::uint64_t kMillisecond = 1'000'000;
constexpr std::uint64_t kIntervals[] = {100 * kMillisecond,   200 * kMillisecond,   500 * kMillisecond,
                                        1000 * kMillisecond,  2000 * kMillisecond,  5000 * kMillisecond,
                                        10000 * kMillisecond, 30000 * kMillisecond, 60000 * kMillisecond};
constexpr int kSignalsWithinMs = 100;  // longest wait before `stopping` is checked
constexpr std::size_t kMostFilterBytes = 200;

constexpr std::size_t kHelpIndent = 13;  // of the second column
const std::vector<std::string> kHelp = {
    "q            quit",
    "< >  ← →     sort by the previous or next column",
    "r            reverse the order",
    "/            show only rows that contain a text (Enter: keep, Esc: clear)",
    "t            change the grouping",
    "w            switch between the window and the total since the start",
    "i            hide or show rows without spans in the window",
    "↑ ↓          select a row (also PgUp, PgDn, Home, End)",
    "Enter        show a histogram of the selected row",
    "g            show all gauges and facts that engines report",
    "p            pause or continue",
    "+ -          lengthen or shorten the update interval",
    "h ?          show this help; Esc closes it",
    "",
    "requests: root spans without a remote parent. received: root spans with one.",
    "root spans, ROOTS: inner spans are not counted (see --all-spans).",
    "TTFT: time to first token. CANC: cancelled spans, which are not errors.",
    "TOK: tokens, counted once, at the innermost span that reports them.",
    "P50, P90 and P99 have an error of at most 1.6 %. MAX is exact.",
};
constexpr const char* kKeys[] = {"h help",  "q quit",         "r reverse",    "/ filter",
                                 "t group", "w window/total", "Enter detail", "p pause"};

void append_character(std::string& text, std::uint32_t code) {
  if (code < 0x80) {
    text += static_cast<char>(code);
    return;
  }
  constexpr unsigned kLeads[] = {0xc0, 0xe0, 0xf0};
  const unsigned more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;  // number of bytes after the first
  text += static_cast<char>(kLeads[more - 1] | code >> (6 * more));
  for (unsigned i = more; i-- > 0;) text += static_cast<char>(0x80U | (code >> (6 * i) & 0x3fU));
}

void remove_character(std::string& text) {
  while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xc0U) == 0x80U) text.pop_back();
  if (!text.empty()) text.pop_back();
}

}  // namespace

void show_top(TopOptions options, bool color, std::unique_ptr<Source> source, TopRunner::ReadSource read) {
  restore_streams();  // Terminal redirects stderr
  for (const char* by : {"name,model", "name", "model", "tenant", "process", "engine"}) {
    if (const Grouping one = parse_grouping(by); one != options.request.by) options.request.others.push_back(one);
  }
  TopRunner runner(options, std::move(source), std::move(read));
  {
    Terminal terminal(color);
    TopScreen screen(terminal, runner, options);
    bool goes_on = true;
    bool has_changed = true;
    while (goes_on && !stopping && !runner.has_failed()) {
      if (has_changed) screen.draw();
      goes_on = terminal.wait(runner.wake_fd(), kSignalsWithinMs);
      has_changed = screen.take(runner.latest());
      for (std::uint32_t key = 0; goes_on && (key = terminal.key()) != Terminal::none; has_changed = true) {
        goes_on = screen.type(key);
      }
    }
  }
  // The terminal is restored first, because stopping the source may take some time.
  const std::string text = runner.stop();
  standard_error().set_live();
  standard_error().write(text);
  standard_error().flush();
}

TopScreen::TopScreen(Terminal& terminal, TopRunner& runner, const TopOptions& options)
    : terminal_(terminal),
      runner_(runner),
      request_(options.request),
      view_(options.view),
      filter_text_(to_text(options.source.filter)),
      buffer_bytes_(options.source.from.empty() ? options.source.buffer_bytes : 0),
      is_recording_(!options.source.from.empty()) {}

bool TopScreen::take(const TopSnapshotPointer& snapshot) {
  if (snapshot == nullptr || snapshot == newest_) return false;
  newest_ = snapshot;
  if (!paused_) show(newest_);
  const bool is_asked = request_.detail && newest_->detail && newest_->detail->numbers.texts == request_.detail->texts;
  if (is_asked && (!paused_ || !detail_)) detail_ = newest_->detail;
  return true;
}

void TopScreen::show(const TopSnapshotPointer& snapshot) {
  shown_ = snapshot;
  arrange();
}

void TopScreen::arrange() {
  if (shown_ == nullptr) return;
  rows_ = arranged(shown_->table, view_);
  if (selected_ >= rows_.size()) selected_ = rows_.empty() ? 0 : rows_.size() - 1;
}

void TopScreen::draw() {
  terminal_.begin();
  arrange();
  const std::size_t height = terminal_.height();
  const std::size_t foot = height >= 8 || (height >= 3 && is_filtering_) ? 1 : 0;
  const std::size_t head = draw_head(height >= 10 ? 3 : height >= 7 ? 2 : height >= 2 ? 1 : 0);
  const std::size_t room = height - head - foot;
  page_ = std::max<std::size_t>(room, 2) - 1;
  if (mode_ == Mode::help) {
    draw_lines(kHelp, head, room, kHelpIndent);
  } else if (shown_ == nullptr) {
    terminal_.put(head, 0, is_recording_ ? "Reading the recording…" : "Waiting for data…");
  } else if (mode_ == Mode::gauges) {
    std::vector<std::string> lines = engine_lines();
    if (lines.empty()) lines.emplace_back("No engine has reported a gauge or a fact.");
    draw_lines(lines, head, room);
  } else if (mode_ == Mode::detail) {
    draw_lines(detail_lines(room), head, room);
  } else {
    layout_ = layout_of(shown_->table, view_, terminal_.width());
    draw_table(head, room);
  }
  if (foot != 0) draw_foot(height - 1);
  terminal_.end();
}

std::size_t TopScreen::draw_head(std::size_t lines) {
  if (lines == 0) return 0;
  std::string title = paused_ ? "PAUSED  " : "";
  if (shown_ == nullptr) {
    terminal_.put_line(0, title + "nopspan top", Terminal::Style::strong);
    return lines;
  }
  const TopSnapshot& snapshot = *shown_;
  const bool loses = snapshot.ledger.total.lost() != 0;
  if (lines == 1 && loses) title += "LOST " + std::to_string(snapshot.ledger.total.lost()) + "  ";
  if (lines < 3 && !view_.filter.empty()) title += "/" + printable(view_.filter, 20) + "  ";
  const std::string time = time_text(snapshot.table.now_unix_ns).substr(0, 8);
  const std::string host = snapshot.host.empty() ? "" : printable(snapshot.host, 40) + "  ";
  const std::string traffic = traffic_text(snapshot, view_.total);
  // The beginning is left out if the line does not fit.
  const std::string beginnings[] = {"nopspan top  " + time + "  " + host, time + "  " + host, time + "  "};
  for (const std::string& before : beginnings) {
    if (lines < 3 || cells_of(title) + cells_of(before) + cells_of(traffic) > terminal_.width()) continue;
    title += before;
    break;
  }
  std::string ledger = ledger_text(snapshot);
  if (buffer_bytes_ != 0) ledger += ", buffer " + bytes_text(buffer_bytes_);
  const std::pair<std::string, Terminal::Style> texts[] = {
      {title + traffic, lines == 1 && loses ? Terminal::Style::bad : Terminal::Style::strong},
      {ledger, loses ? Terminal::Style::bad : Terminal::Style::good},
      {state_text(), Terminal::Style::plain}};
  // A tall screen has room for all of a text.
  const bool wraps = terminal_.height() >= 20;
  std::size_t line = 0;
  for (std::size_t i = 0; i < lines; ++i) {
    const auto& [text, style] = texts[i];
    if (!wraps) {
      terminal_.put_line(line++, text, style);
      continue;
    }
    for (const std::string& part : wrapped(text, terminal_.width())) {
      if (line < terminal_.height() / 3) terminal_.put_line(line++, part, style);
    }
  }
  return line;
}

std::string TopScreen::state_text() const {
  const TableNumbers& table = shown_->table;
  std::string text =
      view_.total ? "total of " + duration_text(table.since_ns) : "last " + duration_text(table.window_ns);
  text += "; by " + to_text(table.by) + (table.roots_only ? ", root spans" : "") + "; sorted by " + view_.sort +
          (view_.reverse ? " reversed" : "");
  if (!is_recording_) text += "; every " + duration_text(request_.interval_ns);
  if (is_recording_ && shown_->is_last) text += "; end of the recording";
  if (!view_.filter.empty()) text += "; filter \"" + printable(view_.filter, 40) + "\"";
  if (view_.hide_idle) text += "; idle rows hidden";
  const bool has_all = rows_.size() == table.rows.size();
  return text + "; " + (has_all ? "" : std::to_string(rows_.size()) + " of ") + counted(table.rows.size(), "row");
}

void TopScreen::draw_table(std::size_t first_line, std::size_t lines) {
  if (lines == 0) return;
  const TableNumbers& table = shown_->table;
  const std::vector<std::string> gauges = engine_lines();
  std::size_t room = lines - 1;
  const std::string bounds = bounds_text(*shown_);
  const std::size_t bounds_lines = !bounds.empty() && room >= 6 ? 1 : 0;
  room -= bounds_lines;
  const auto gauges_lines = std::min<std::size_t>({gauges.size(), 4, room / 4});
  room -= gauges_lines;
  const std::size_t other_lines = !table.other.total.tally.empty() && room >= 2 ? 1 : 0;
  room -= other_lines;

  const std::vector<std::string> titles = header_cells(layout_);
  terminal_.put_line(first_line, "", Terminal::Style::header);
  for (std::size_t i = 0, column = 0; i < titles.size(); column += layout_.widths[i++] + layout_.gap) {
    terminal_.put(first_line, column, titles[i],
                  i == layout_.sorted ? Terminal::Style::sorted : Terminal::Style::header);
  }
  page_ = std::max<std::size_t>(room, 1);
  if (selected_ < first_row_) first_row_ = selected_;
  if (selected_ >= first_row_ + page_) first_row_ = selected_ - page_ + 1;
  if (first_row_ + room > rows_.size()) first_row_ = rows_.size() > room ? rows_.size() - room : 0;
  for (std::size_t i = 0; i < room && first_row_ + i < rows_.size(); ++i) {
    draw_row(first_line + 1 + i, *rows_[first_row_ + i], first_row_ + i == selected_);
  }
  if (rows_.empty()) terminal_.put(first_line + 1, 0, empty_text());
  std::size_t line = first_line + 1 + room;
  if (other_lines != 0) {
    terminal_.put_line(line++, joined(layout_, other_cells(layout_, table, view_.total)), Terminal::Style::faint);
  }
  for (std::size_t i = 0; i < gauges_lines; ++i) {
    const bool has_more = i + 1 == gauges_lines && gauges.size() > gauges_lines;
    terminal_.put_line(line++, has_more ? "g: all gauges" : gauges[i], Terminal::Style::faint);
  }
  if (bounds_lines != 0) terminal_.put_line(line, bounds, Terminal::Style::bad);
}

std::vector<std::string> TopScreen::engine_lines() const {
  std::vector<std::string> lines = fact_lines(*shown_, terminal_.width());
  for (std::string& line : gauge_lines(*shown_, terminal_.width())) lines.push_back(std::move(line));
  return lines;
}

std::string TopScreen::empty_text() const {
  const TableNumbers& table = shown_->table;
  const std::string yet = shown_->is_last ? "" : " yet";
  if (is_recording_ && !shown_->is_last) return "Reading the recording…";
  if (!table.rows.empty()) return "No row matches the filter.";
  if (table.total.spans != 0) return "No root spans" + yet + " (see --all-spans).";
  return filter_text_.empty() ? "No spans" + yet + "." : "Nothing has matched " + filter_text_ + yet + ".";
}

void TopScreen::draw_row(std::size_t line, const RowNumbers& row, bool is_selected) {
  const std::vector<std::string> cells = row_cells(layout_, row, shown_->table, view_.total);
  if (is_selected) terminal_.put_line(line, "", Terminal::Style::selected);
  const Tally& tally = (view_.total ? row.total : row.window).tally;
  for (std::size_t i = 0, column = 0; i < cells.size(); column += layout_.widths[i++] + layout_.gap) {
    const bool is_bad = tally.errors != 0 && layout_.columns[i].id.starts_with("error");
    terminal_.put(line, column, cells[i],
                  is_selected ? Terminal::Style::selected
                  : is_bad    ? Terminal::Style::bad
                              : Terminal::Style::plain);
  }
}

void TopScreen::draw_foot(std::size_t line) {
  if (is_filtering_) {
    const std::string text = "/" + printable(view_.filter, kMostFilterBytes);
    terminal_.put_line(line, text);
    terminal_.put_cursor(line, std::min(cells_of(text), terminal_.width() - 1));
  } else if (mode_ != Mode::table) {
    terminal_.put_line(line, mode_ == Mode::detail ? "Esc back  w window/total" : "Esc back  ↑↓ scroll",
                       Terminal::Style::faint);
  } else {
    std::string keys = "< > sort";
    if (layout_.hidden != 0) keys += " (" + counted(layout_.hidden, "more column") + ")";
    for (const std::string_view key : kKeys) {
      if (cells_of(keys) + 2 + key.size() > terminal_.width()) break;
      keys.append("  ").append(key);
    }
    terminal_.put_line(line, keys, Terminal::Style::faint);
  }
}

void TopScreen::draw_lines(const std::vector<std::string>& texts, std::size_t first_line, std::size_t room,
                           std::size_t indent) {
  std::vector<std::string> lines;
  for (const std::string& text : texts) {
    for (std::string& line : wrapped(text, terminal_.width(), indent)) lines.push_back(std::move(line));
  }
  most_scrolled_ = lines.size() > room ? lines.size() - room : 0;
  scrolled_ = std::min(scrolled_, most_scrolled_);
  for (std::size_t i = 0; i < room && scrolled_ + i < lines.size(); ++i) {
    terminal_.put(first_line + i, 0, lines[scrolled_ + i]);
  }
}

std::vector<std::string> TopScreen::detail_lines(std::size_t room) const {
  if (!detail_)
    return {newest_->detail || !request_.detail ? "This row no longer exists." : "Waiting for the histogram…"};
  return top_detail(*detail_, shown_->table, view_.total, terminal_.width(), room, terminal_.has_utf8());
}

bool TopScreen::type(std::uint32_t key) {
  if (key == Terminal::other) return true;
  if (is_filtering_) {
    type_filter(key);
  } else if (key == 'w') {
    view_.total = !view_.total;
  } else if (key == 'p') {
    paused_ = !paused_;
    if (!paused_) show(newest_);
  } else if (mode_ != Mode::table) {
    type_panel(key);
  } else {
    return type_table(key);
  }
  return true;
}

void TopScreen::type_filter(std::uint32_t key) {
  switch (key) {
    case Terminal::escape:
      view_.filter.clear();
      is_filtering_ = false;
      break;
    case Terminal::enter:
      is_filtering_ = false;
      break;
    case Terminal::erase:
      remove_character(view_.filter);
      break;
    case 'U' & 0x1f:
      view_.filter.clear();
      break;
    default:
      if (key >= 0x20 && key < 0x110000 && view_.filter.size() < kMostFilterBytes) append_character(view_.filter, key);
  }
  selected_ = 0;
}

void TopScreen::type_panel(std::uint32_t key) {
  if (scroll(key, scrolled_, most_scrolled_)) return;
  if (mode_ == Mode::detail) {
    request_.detail.reset();
    detail_.reset();
    runner_.ask(request_);
  }
  mode_ = Mode::table;
}

bool TopScreen::scroll(std::uint32_t key, std::size_t& at, std::size_t last) const {
  if (key == Terminal::up || key == Terminal::page_up) {
    at -= std::min(at, key == Terminal::up ? 1 : page_);
  } else if (key == Terminal::down || key == Terminal::page_down) {
    at = std::min(at + (key == Terminal::down ? 1 : page_), last);
  } else {
    return false;
  }
  return true;
}

bool TopScreen::type_table(std::uint32_t key) {
  const std::size_t last = rows_.empty() ? 0 : rows_.size() - 1;
  if (scroll(key, selected_, last)) return true;
  switch (key) {
    case Terminal::to_home:
      selected_ = 0;
      break;
    case Terminal::to_end:
      selected_ = last;
      break;
    case 'q':
      return false;
    case '<':
    case Terminal::left:
      sort_by_neighbour(-1);
      break;
    case '>':
    case Terminal::right:
      sort_by_neighbour(1);
      break;
    case 'r':
      view_.reverse = !view_.reverse;
      break;
    case '/':
      is_filtering_ = true;
      break;
    case Terminal::escape:
      view_.filter.clear();
      break;
    case 't':
      group_by_next();
      break;
    case 'i':
      view_.hide_idle = !view_.hide_idle;
      break;
    case '+':
      change_interval(1);
      break;
    case '-':
      change_interval(-1);
      break;
    case Terminal::enter:
      open_detail();
      break;
    case 'g':
      mode_ = Mode::gauges;
      scrolled_ = 0;
      break;
    case 'h':
    case '?':
      mode_ = Mode::help;
      scrolled_ = 0;
      break;
    default:
      break;
  }
  return true;
}

void TopScreen::sort_by_neighbour(int step) {
  const std::vector<TopColumn> columns = columns_of(request_.by, view_.total);
  const auto at = static_cast<std::ptrdiff_t>(sorted_column(columns, view_)) + step;
  view_.sort = columns[static_cast<std::size_t>(std::clamp<std::ptrdiff_t>(at, 0, std::ssize(columns) - 1))].id;
}

void TopScreen::group_by_next() {
  request_.others.push_back(request_.by);
  request_.by = request_.others.front();
  request_.others.erase(request_.others.begin());
  paused_ = false;
  selected_ = 0;
  runner_.ask(request_);
}

void TopScreen::change_interval(int step) {
  if (is_recording_) return;
  const auto* found = std::lower_bound(std::begin(kIntervals), std::end(kIntervals), request_.interval_ns);
  // If the current interval is not in the list, `found` is already the next longer one.
  if (step < 0 && found != std::begin(kIntervals)) --found;
  if (step > 0 && found != std::end(kIntervals) && *found == request_.interval_ns) ++found;
  if (found == std::end(kIntervals)) return;
  request_.interval_ns = *found;
  runner_.ask(request_);
}

void TopScreen::open_detail() {
  if (rows_.empty()) return;
  request_.detail = TopRequest::Row{rows_[selected_]->texts, rows_[selected_]->process};
  detail_.reset();
  mode_ = Mode::detail;
  runner_.ask(request_);
}

}  // namespace nopspan::collector
