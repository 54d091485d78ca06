# SPDX-License-Identifier: Apache-2.0
# For perf-spans.sh report: reads lines of name, ns and status, separated by tabs, sorted by name and ns. Writes a row
# for each name. The row begins with the name's total, so that the rows can be sorted by it.

BEGIN { FS = "\t" }
function ms(ns) { return sprintf("%.3f", ns / 1000000) }
# The smallest duration that p of a hundred spans do not exceed.
function percentile(p) { return durations[int((n * p + 99) / 100)] }
function row() {
  if (!n) return
  if (tsv)
    printf "%.0f\t%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\n", total, name, n, total, total / n,
           durations[n], percentile(50), percentile(90), percentile(99), errors, cancelled
  else
    printf "%.0f\t%8.0f %12s %10s %10s %10s %10s %10s %7.0f %9.0f  %s\n", total, n, ms(total), ms(total / n),
           ms(durations[n]), ms(percentile(50)), ms(percentile(90)), ms(percentile(99)), errors, cancelled, name
}
$1 "" != name "" || !n { row(); name = $1; n = total = errors = cancelled = 0 }
{
  durations[++n] = $2
  total += $2
  errors += $3 == 1 || $3 == 3
  cancelled += $3 == 2
}
END { row() }
