#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes nopspan.1, and nopspan-COMMAND.1 for each command, from what --help prints.
# usage: man-pages.sh PROGRAM VERSION FOLDER COMMAND...
set -eu
program=$1 version=$2 folder=$3
shift 3
help2man --no-info --name="show the spans of running programs" --version-string="$version" \
  --include="$(dirname "$0")/nopspan.h2m" "$program" >"$folder/nopspan.1"
for command in "$@"; do
  page=$folder/nopspan-$command.1
  summary=$("$program" "$command" --help | head -n 1)
  # Not in a pipe, which would hide a failure.
  help2man --no-info --name="$summary" --version-string="$version" --help-option="$command --help" "$program" >"$page"
  sed -i "/^\\.TH/s/NOPSPAN/NOPSPAN-$(echo "$command" | tr '[:lower:]' '[:upper:]')/; s/^nopspan \\\\-/nopspan-$command \\\\-/" "$page"
  # A list of values may break after each comma.
  sed -i '/^\\fB.*{.*}$/s/,/, /g' "$page"
  printf '.SH "SEE ALSO"\n.BR nopspan (1)\n' >>"$page"
  # Examples without descriptions are lines, and not a paragraph.
  sed -i '/^\.SH EXAMPLES/,$ { /^\.IP$/,/^\.[PST]/ { s/^\.IP$/&\n.nf/; s/^\.[PST].*/.fi\n&/ } }' "$page"
done
