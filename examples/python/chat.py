#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Three chats at the same time. To see their spans, run in another terminal: sudo nopspan trace"""
import asyncio

import nopspan


async def search(query):
    with nopspan.span("llm.tool", tool_name="search") as span:
        await asyncio.sleep(0.01)
        span.content("result", f"three pages about {query}")
        return 3


async def chat(tenant, prompt, traceparent=None):
    with nopspan.span("llm.chat", traceparent=traceparent, kind="server", tenant=tenant, model="small") as span:
        pages = await search(prompt)
        await asyncio.sleep(0.01)
        span.first_token()
        if not prompt:
            raise ValueError("the prompt is empty")
        span.usage(len(prompt.split()), pages)
        return nopspan.traceparent()


async def main():
    caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    answers = await asyncio.gather(chat("acme", "tea and cake", caller), chat("globex", "tea"), chat("hooli", ""),
                                   return_exceptions=True)
    nopspan.counter("chats", len(answers), engine="python")
    print(*(repr(answer) for answer in answers), sep="\n")


if __name__ == "__main__":
    asyncio.run(main())
