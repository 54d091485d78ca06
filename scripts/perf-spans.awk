# SPDX-License-Identifier: Apache-2.0
# For perf-spans.sh: reads the lines of `perf script` in order of time. Writes the stacks of the CPU samples inside spans
# named WANTED (from the environment): the frames, outermost first and separated by \001, a tab and a count. Writes into
# the file `status` the numbers of samples, spans, spans left out and events lost.
#
# `lost` is the number of records that perf lost, or 0. stderr reports what is left out.

BEGIN { wanted = ENVIRON["WANTED"] }

# --- What a line is ---------------------------------------------------------------------------------------------------

# A field of an event. Numbers come before strings, and the name is last, so that no name is taken for a field.
function number_of(key,    at, text) {
  at = index(event, " " key "=")
  text = substr(event, at + length(key) + 2)
  sub(/ .*/, "", text)
  return text
}
function name_of(    at) {
  at = index(event, " name=\"")
  return substr(event, at + 7, length(event) - at - 7)
}
function is_async() { return int(number_of("flags") / 1024) % 2 }

function counted(n, thing) { return sprintf("%.0f %s%s", n, thing, n == 1 ? "" : "s") }
function say(text) { print "perf-spans.sh: " text | "cat 1>&2" }

{ event = "" }

# `lost` has the total of the same losses, if this perf counts it.
/^[ 0-9.:]*PERF_RECORD_LOST lost [0-9]+$/ {
  lost_here += $NF
  next
}

/^ *[0-9]/ && match($0, / nopspan_[0-9a-f_]+:span_st(art|op)(_[0-9]+)?: \([0-9a-f]+\)/) {
  is_start = index(substr($0, RSTART, RLENGTH), ":span_start")
  event = substr($0, RSTART + RLENGTH)
  if (!index(event, " name=\"")) {
    unreadable++
    next
  }
}

function say_losses() {
  if (lost_here > lost) lost = lost_here
  if (lost > 0)
    say("perf lost " counted(lost, "record") ", because its buffer was full: these numbers are too low. " \
        "Record with a larger --buffer")
  if (unreadable) say("left out: " counted(unreadable, "event") " whose name could not be read")
}

# --- stacks -----------------------------------------------------------------------------------------------------------

# Samples are held until the span around them has ended, because a span whose end was not seen may have ended long ago.
# The samples of a thread are stack[tid, 1] to stack[tid, held[tid]]. Those from first[span] on were taken after the
# span's start.

# The sample whose frames were read last.
function hold() {
  if (frames != "") stack[tid, ++held[tid]] = frames
  frames = ""
}

function let_go(thread,    i) {
  for (i = 1; i <= held[thread]; i++) {
    if ((thread, i) in is_inside) {
      count[stack[thread, i]]++
      samples++
    }
    delete is_inside[thread, i]
    delete stack[thread, i]
  }
  delete held[thread]
}

function start(span, thread) {
  open[thread]++
  thread_of[span] = thread
  first[span] = held[thread] + 1
}

function stop(span, thread,    began, i) {
  if (!(span in thread_of)) {
    unseen++
    return
  }
  began = thread_of[span]
  if (began == thread) {
    spans++
    total_ns += number_of("dur")
    for (i = first[span]; i <= held[thread]; i++) is_inside[thread, i] = 1
  } else {
    elsewhere++
  }
  delete thread_of[span]
  delete first[span]
  if (--open[began] == 0) {
    delete open[began]
    let_go(began)
  }
}

event != "" {
  hold()
  tid = ""
  name = name_of()
  seen[name] = 1
  if (name != wanted "") next
  span = number_of("span")
  if (is_async()) async[span] = 1
  else if (is_start) start(span, $1)
  else stop(span, $1)
  next
}

# A sample: its frames follow, the innermost first.
/^ *[0-9]+ +[0-9]+\.[0-9]+:/ {
  hold()
  tid = ($1 in open) ? $1 : ""
  frames = tid == "" ? "" : "[no stack]"
  next
}

tid != "" && /^[ \t]+[0-9a-f]+ / {
  symbol = $0
  sub(/^[ \t]+[0-9a-f]+ /, "", symbol)
  sub(/ \(deleted\)\)$/, ")", symbol)
  for (i = length(symbol) - 1; i > 1 && substr(symbol, i, 2) != " ("; i--);
  file = substr(symbol, i + 2, length(symbol) - i - 2)
  symbol = substr(symbol, 1, i - 1)
  if (symbol == "[unknown]" && file != "[unknown]") {
    sub(/.*\//, "", file)
    symbol = file ~ /^\[/ ? file : "[" file "]"
  } else if (file ~ /^\[.*\]$|\.ko(\.[a-z]+)?$/ && file !~ /^\[(unknown|vdso|vsyscall|uprobes|heap|stack|anon)/) {
    symbol = symbol "_[k]"  # as FlameGraph marks the kernel
  }
  gsub(/[\001-\037\177]/, "?", symbol)
  gsub(/;/, ":", symbol)
  frames = frames == "[no stack]" ? symbol : symbol "\001" frames
}

END {
  hold()
  for (span in async) asyncs++
  for (span in thread_of) unended++
  for (thread in held) let_go(thread)
  for (one in count) printf "%s\t%d\n", one, count[one]
  if (asyncs) say("left out: " counted(asyncs, "AsyncSpan") ", bound to no thread")
  if (elsewhere) say("left out: " counted(elsewhere, "span") " that ended on another thread")
  if (unended) say("left out: " counted(unended, "span") " of which no end was recorded")
  if (unseen) say("left out: " counted(unseen, "span") " of which no start was recorded")
  say_losses()
  if (!(wanted in seen)) {
    for (one in seen) names = names (names == "" ? "" : ", ") one
    say("no span is named " wanted (names == "" ? "" : "; there are: " names))
  } else if (spans && !samples) {
    say("no CPU sample was taken in " counted(spans, "span") " " wanted ", " sprintf("%.3f ms", total_ns / 1e6))
  } else if (!spans) {
    say("no span " wanted " is left")
  }
  printf "%.0f %.0f %.0f %.0f\n", samples, spans, asyncs + elsewhere + unended + unseen, lost >status
}
