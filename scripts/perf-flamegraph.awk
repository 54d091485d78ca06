# SPDX-License-Identifier: Apache-2.0
# For perf-spans.sh flamegraph: reads sorted lines of a stack (outermost frame first, separated by \001), a tab and a
# count. Writes an SVG with the outermost frame at the bottom. A frame is drawn when the next line does not share it.
#
# Variables: samples, spans, left, lost. Environment: WANTED, the span's name, and SAMPLING, "HZ EVENT".

# Names come from programs. Bytes that are not UTF-8 would make the XML invalid.
function utf8(text,    out, c, i, n, k, good) {
  if (text !~ /[\200-\377]/) return text
  out = ""
  for (i = 1; i <= length(text); i += n) {
    c = ord[substr(text, i, 1)]
    n = c < 128 ? 1 : c >= 194 && c < 224 ? 2 : c >= 224 && c < 240 ? 3 : c >= 240 && c < 245 ? 4 : 0
    good = n > 0
    for (k = 1; k < n; k++) if (substr(text, i + k, 1) !~ /[\200-\277]/) good = 0
    if (!good) n = 1
    out = out (good ? substr(text, i, n) : "?")
  }
  return out
}
function counted(n, thing) { return sprintf("%.0f %s%s", n, thing, n == 1 ? "" : "s") }
function xml(text) {
  text = utf8(text)
  gsub(/&/, "\\&amp;", text)
  gsub(/</, "\\&lt;", text)
  gsub(/>/, "\\&gt;", text)
  gsub(/"/, "\\&quot;", text)
  return text
}
# The part of a text that fits.
function label(text, width,    room) {
  room = int((width - 6) / letter)
  if (room < 3) return ""
  if (length(text) <= room) return xml(text)
  text = substr(text, 1, room - 2)
  sub(/[\300-\377]?[\200-\277]*$/, "", text)
  return xml(text) ".."
}
# One name always has the same colour: warm for programs, blue for the kernel.
function colour(name,    hash, i) {
  if (name == wanted) return "rgb(200,200,200)"
  hash = 7
  for (i = 1; i <= length(name); i++) hash = (hash * 31 + ord[substr(name, i, 1)]) % 65521
  if (name ~ /_\[k\]$/) return sprintf("rgb(%d,%d,%d)", 110 + hash % 40, 160 + int(hash / 40) % 50, 225)
  return sprintf("rgb(%d,%d,%d)", 210 + hash % 45, 90 + int(hash / 45) % 120, 40 + int(hash / 5400) % 12)
}
function close_frames(down_to,    width) {
  for (; depth >= down_to; depth--) {
    width = (x - begin[depth]) * scale
    if (width < 0.2) continue
    n++
    left_of[n] = begin[depth]
    right_of[n] = x
    level_of[n] = depth
    name_of[n] = frame[depth]
    if (depth > deepest) deepest = depth
  }
}
function draw(i,    width, y, text) {
  width = (right_of[i] - left_of[i]) * scale
  y = top + (deepest - level_of[i]) * height
  printf "<g><title>%s (%s, %.2f%%)</title>", xml(name_of[i]), counted(right_of[i] - left_of[i], "sample"),
         100 * (right_of[i] - left_of[i]) / samples
  printf "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"1\" fill=\"%s\"/>",
         margin + left_of[i] * scale, y, width, height - 1, colour(name_of[i])
  text = label(name_of[i], width)
  if (text != "") printf "<text x=\"%.1f\" y=\"%d\">%s</text>", margin + left_of[i] * scale + 3, y + 12, text
  print "</g>"
}
BEGIN {
  FS = "\t"
  for (i = 1; i < 256; i++) ord[sprintf("%c", i)] = i
  wanted = ENVIRON["WANTED"]
  split(ENVIRON["SAMPLING"], sampling, " ")
  page = 1200
  margin = 10
  top = 62  # under the title
  height = 17
  letter = 7.3
  scale = (page - 2 * margin) / samples
  frame[0] = wanted
  begin[0] = depth = x = 0
}
{
  size = split($1, now, "\001")
  for (same = 0; same < size && same < depth && now[same + 1] == frame[same + 1]; same++);
  close_frames(same + 1)
  while (depth < size) {
    depth++
    frame[depth] = now[depth]
    begin[depth] = x
  }
  x += $2
}
END {
  close_frames(0)
  bottom = top + (deepest + 1) * height
  printf "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
  printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" ", page,
         bottom + margin, page, bottom + margin
  print "font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"12\">"
  print "<style>text { pointer-events: none } g:hover rect { stroke: black }</style>"
  print "<rect width=\"100%\" height=\"100%\" fill=\"rgb(252,252,248)\"/>"
  printf "<text x=\"%d\" y=\"26\" font-size=\"17\" text-anchor=\"middle\">CPU inside span %s</text>\n", page / 2,
         xml(wanted)
  said = counted(samples, "sample") sprintf(" (about %.2f s at %d Hz of %s) in ", samples / sampling[1], sampling[1],
                                            sampling[2]) counted(spans, "span")
  if (left) said = said "; " counted(left, "span") " left out"
  if (lost > 0) said = said "; perf lost " counted(lost, "record")
  printf "<text x=\"%d\" y=\"46\" text-anchor=\"middle\" fill=\"rgb(90,90,90)\">%s</text>\n", page / 2, said
  for (i = 1; i <= n; i++) draw(i)
  print "</svg>"
}
