// SPDX-License-Identifier: Apache-2.0
// The gate and the probe sites. They are in an assembler file so that no optimiser, LTO mode or linker option can
// inline, clone or drop a site, or move its arguments. When they were in C++, clang's LTO inlined a site into main with
// an argument in the red zone, and gcc's -flto-partition=max lost the semaphore's alias. docs/architecture.md has more
// reasons, and probes/README.md is the ABI.

// If -std= is given, clang++ defines this for assembler too, and sdt.h would include <cstddef>.
#undef __cplusplus
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

#if defined(__x86_64__)
#define GATE_PAGE 4096
#define A0 8@%rdi
#define A1 8@%rsi
#define A2 8@%rdx
#define A3 8@%rcx
#define A4 8@%r8
#define A5 8@%r9
#elif defined(__aarch64__) && defined(__AARCH64EL__)
#define GATE_PAGE 65536
#define A0 8@x0
#define A1 8@x1
#define A2 8@x2
#define A3 8@x3
#define A4 8@x4
#define A5 8@x5
#else
#error "nopspan's probes are for x86-64 and little-endian aarch64"
#endif

// The gate word, alone in its page. lld maps the page at the boundary of RELRO and .data twice, so if the gate were in
// that page, an attach before the program starts would raise the wrong copy. The section must be named .probes, because
// bpftrace 0.17 and perf find the semaphore's file offset by that name. The layout is compiled into programs
// (include/nopspan/detail/gate.h) and cannot change.
        .section .probes,"aw",@progbits
        .balign GATE_PAGE
        .globl  nopspan_gate
        .hidden nopspan_gate
        .type   nopspan_gate,@object
nopspan_gate:
        .quad   0                       // spans:16 batch:16 span_handlers:8 point_handlers:8 points:16
        .quad   2                       // NOPSPAN_ABI_VERSION
        .zero   GATE_PAGE-16            // the rest of struct nopspan_gate_page, filled when the library is loaded
        .size   nopspan_gate,GATE_PAGE

// A tracer sees only one of two gates in a file. nopspan_mini.h has a symbol of this name for a variable that is not
// thread-local, so linkers refuse a file with both.
#define NOT_BESIDE_MINI nopspan_mini_and_the_static_library_cannot_be_in_one_file
        .section .tbss,"awT",@nobits
        .globl  NOT_BESIDE_MINI
        .hidden NOT_BESIDE_MINI
        .type   NOT_BESIDE_MINI,@object
NOT_BESIDE_MINI:

// Several notes share one semaphore. The notes of sdt.h refer to it by the name PROVIDER_PROBE_semaphore.
#define COUNTER(name, offset) .hidden nopspan_##name##_semaphore; .set nopspan_##name##_semaphore, nopspan_gate+offset
        COUNTER(span_start, 0)
        COUNTER(span_stop, 0)
        COUNTER(span_exception, 0)
        COUNTER(event, 6)
        COUNTER(first_token, 6)
        COUNTER(tokens, 6)
        COUNTER(retry, 6)
        COUNTER(tool_call, 6)
        COUNTER(engine_request, 6)
        COUNTER(gauge, 6)
        COUNTER(engine_step, 6)
        // Its own provider, so that `perf record -e 'sdt_nopspan:*'` and usdt:…:nopspan:* do not attach to it.
        .hidden nopspan_batch_batch_semaphore
        .set    nopspan_batch_batch_semaphore, nopspan_gate+2

// A site is `nop; ret`, after the landing pad that CET or BTI needs if it is enabled. It uses the one-byte nop of sdt.h
// on purpose: the kernel optimises a probe on a five-byte nop to a CALL, which writes into the red zone of the traced
// function.
        .text
#if defined(__CET__)
#define LANDING endbr64
#elif defined(__ARM_FEATURE_BTI_DEFAULT)
#define LANDING hint 34
#else
#define LANDING
#endif
#define SITE(probe)                                    \
        .balign 16;                                    \
        .globl  nopspan_site_##probe;                  \
        .hidden nopspan_site_##probe;                  \
        .type   nopspan_site_##probe,%function;        \
nopspan_site_##probe:                                  \
        .cfi_startproc;                                \
        LANDING
#define END(probe)                                     \
        ret;                                           \
        .cfi_endproc;                                  \
        .size   nopspan_site_##probe, .-nopspan_site_##probe

SITE(span_start)
        STAP_PROBE6(nopspan, span_start, A0, A1, A2, A3, A4, A5)
END(span_start)
SITE(span_stop)
        STAP_PROBE6(nopspan, span_stop, A0, A1, A2, A3, A4, A5)
END(span_stop)
SITE(span_exception)
        STAP_PROBE6(nopspan, span_exception, A0, A1, A2, A3, A4, A5)
END(span_exception)
SITE(event)
        STAP_PROBE6(nopspan, event, A0, A1, A2, A3, A4, A5)
END(event)
SITE(first_token)
        STAP_PROBE6(nopspan, first_token, A0, A1, A2, A3, A4, A5)
END(first_token)
SITE(tokens)
        STAP_PROBE6(nopspan, tokens, A0, A1, A2, A3, A4, A5)
END(tokens)
SITE(retry)
        STAP_PROBE6(nopspan, retry, A0, A1, A2, A3, A4, A5)
END(retry)
SITE(tool_call)
        STAP_PROBE6(nopspan, tool_call, A0, A1, A2, A3, A4, A5)
END(tool_call)
SITE(engine_request)
        STAP_PROBE6(nopspan, engine_request, A0, A1, A2, A3, A4, A5)
END(engine_request)
SITE(gauge)
        STAP_PROBE6(nopspan, gauge, A0, A1, A2, A3, A4, A5)
END(gauge)
SITE(engine_step)
        STAP_PROBE6(nopspan, engine_step, A0, A1, A2, A3, A4, A5)
END(engine_step)
SITE(batch)
        STAP_PROBE6(nopspan_batch, batch, A0, A1, A2, A3, A4, A5)
END(batch)

        .section .note.GNU-stack,"",@progbits
// Marks this object as compatible with CET (IBT and shadow stack) or BTI. Without the mark, linking it would disable
// them for the whole program.
#if defined(__x86_64__) && defined(__CET__)
#define FEATURES 0xc0000002, 4, 3
#elif defined(__ARM_FEATURE_BTI_DEFAULT) && defined(__ARM_FEATURE_PAC_DEFAULT)
#define FEATURES 0xc0000000, 4, 3
#elif defined(__ARM_FEATURE_BTI_DEFAULT)
#define FEATURES 0xc0000000, 4, 1
#endif
#if defined(FEATURES)
        .section .note.gnu.property,"a",@note
        .balign 8
        .long   4, 16, 5
        .asciz  "GNU"
        .long   FEATURES, 0
#endif
