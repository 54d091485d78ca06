// SPDX-License-Identifier: Apache-2.0
/// @file
/// Spans of programs that are instrumented with the API of opentelemetry-cpp: nopspan as its TracerProvider. Link
/// nopspan::opentelemetry and call install() once. docs/opentelemetry.md describes how the API's spans are mapped.
///
/// @code
/// #include <nopspan/opentelemetry.h>
///
/// #include <opentelemetry/trace/provider.h>
///
/// int main() {
///   nopspan::opentelemetry::install();
///   const auto tracer = opentelemetry::trace::Provider::GetTracerProvider()->GetTracer("shop", "1.0");
///   const auto span = tracer->StartSpan("order", {{"items", 3}});
///   span->End();
/// }
/// @endcode
///
/// While no tracer or handler is attached, and no SDK is installed, a span of the API costs no more than with the API's
/// own no-op provider. If an SDK is installed, every span is in both systems, with the same ids.
///
/// Thread safety: both functions may be called from any thread at any time. The API allows several threads to use one
/// tracer or span.
///
/// The API has several ABIs, and the library has all of these that do not use the standard library's types. The
/// program's setting of OPENTELEMETRY_ABI_VERSION_NO selects one.
#ifndef NOPSPAN_OPENTELEMETRY_H
#define NOPSPAN_OPENTELEMETRY_H

#include <nopspan/detail/config.h>

#include <opentelemetry/nostd/shared_ptr.h>
#include <opentelemetry/trace/tracer_provider.h>
#include <opentelemetry/version.h>
NOPSPAN_SHELL_HEADER

// The namespace of everything that depends on the API's ABI. With another ABI, a program does not link.
#if defined(OPENTELEMETRY_STL_VERSION)
#define NOPSPAN_OPENTELEMETRY_ABI                                             \
  OPENTELEMETRY_CONCAT(OPENTELEMETRY_CONCAT(v, OPENTELEMETRY_ABI_VERSION_NO), \
                       OPENTELEMETRY_CONCAT(_stl, OPENTELEMETRY_STL_VERSION))
#else
#define NOPSPAN_OPENTELEMETRY_ABI OPENTELEMETRY_CONCAT(v, OPENTELEMETRY_ABI_VERSION_NO)
#endif

// For the functions of this library, which is an archive.
#if NOPSPAN_SHELL
#define NOPSPAN_OF_OPENTELEMETRY inline
#else
#define NOPSPAN_OF_OPENTELEMETRY __attribute__((__visibility__("hidden")))
#endif

/// nopspan as a provider of the API of opentelemetry-cpp.
namespace NOPSPAN_NAMESPACE::opentelemetry {
inline namespace NOPSPAN_OPENTELEMETRY_ABI {

/// Makes nopspan the API's global TracerProvider. If another one is installed, such as an SDK's, it is wrapped: it
/// receives every call as before.
///
/// Call it at the start of the program, after RuntimeContext::SetRuntimeContextStorage() if the program calls that. If
/// an SDK is installed later, call it again: the SDK has replaced nopspan, and this call wraps the SDK. Tracers that
/// the program has obtained in between then use the SDK too. Further calls do nothing, also if the installed provider
/// passes its calls on to nopspan's.
///
/// After this call, Provider::GetTracerProvider() is not the SDK's object. A program that casts it to the SDK's class,
/// for example to call ForceFlush(), must keep the pointer that it gave to SetTracerProvider() instead.
///
/// Returns whether nopspan's provider is installed: false if there is no memory.
NOPSPAN_OF_OPENTELEMETRY bool install() noexcept NOPSPAN_IN_SHELL(return false);

/// A provider that passes all calls on to `inner`, and makes nopspan's spans of them. It is for programs that do not
/// use the API's global provider. `inner` may be null. Returns `inner` if there is no memory.
NOPSPAN_OF_OPENTELEMETRY ::opentelemetry::nostd::shared_ptr<::opentelemetry::trace::TracerProvider> wrap(
    const ::opentelemetry::nostd::shared_ptr<::opentelemetry::trace::TracerProvider>& inner) noexcept
    NOPSPAN_IN_SHELL(return inner);

}  // namespace NOPSPAN_OPENTELEMETRY_ABI
}  // namespace NOPSPAN_NAMESPACE::opentelemetry

#endif  // NOPSPAN_OPENTELEMETRY_H
