// SPDX-License-Identifier: Apache-2.0
// The program of docs/opentelemetry.md.
#include <nopspan/opentelemetry.h>

#include <opentelemetry/trace/provider.h>

int main() {
  nopspan::opentelemetry::install();
  const auto tracer = opentelemetry::trace::Provider::GetTracerProvider()->GetTracer("shop", "1.0");
  const auto span = tracer->StartSpan("order", {{"items", 3}});
  span->End();
}
