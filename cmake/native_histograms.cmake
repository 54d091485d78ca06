# SPDX-License-Identifier: Apache-2.0
# nopspan_native_histograms(INPUT OUTPUT): writes the form for native histograms of a file with PromQL expressions for
# classic ones. Prometheus stores a native histogram as one series, without _bucket, _count, _sum and the label le.
function(nopspan_native_histograms input output)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${input})
  file(READ ${input} text)
  # sum by (a, le) (rate(X_bucket…  to  sum by (a) (rate(X…
  string(REGEX REPLACE "(, )?le\\)([ \n]+)\\(rate\\(([a-z_]+)_bucket" ")\\2(rate(\\3" text "${text}")
  # rate(X_count{…}[…])  to  histogram_count(rate(X{…}[…]))
  string(REGEX REPLACE "rate\\(([a-z_]+)_(count|sum)(({[^}]*})?\\[[^]]*\\])\\)" "histogram_\\2(rate(\\1\\3))" text
                       "${text}")
  file(CONFIGURE OUTPUT ${output} CONTENT "${text}" @ONLY)
endfunction()
