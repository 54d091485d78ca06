// SPDX-License-Identifier: Apache-2.0
// An object with SITES batch sites and a gate, and nothing else: what a hostile process maps to be attached to.
  .text
  .rept SITES
  nop
  ret
  .endr
  .section .probes, "aw", @progbits
  .balign 4096
gate:
  .quad 0, 1
  .zero 4080
  .section .note.stapsdt, "", @note
  .set site, .text
  .set number, 0
  .rept SITES
  .balign 4
  .4byte 8, 84, 3
  .asciz "stapsdt"
  .8byte .text + number * 2, 0, gate + 2
  .asciz "nopspan_batch"
  .asciz "batch"
  .asciz "8@%rdi 8@%rsi 8@%rdx 8@%rcx 8@%r8 8@%r9"
  .set number, number + 1
  .endr
