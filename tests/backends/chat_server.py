"""A chat-only server for tests, over a model that `scoring.reference` answers for, with a template of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from model_server import ModelServer, _likeliest

from tiltmeter.scoring.prompts import encode

OPEN, CLOSE = " ### answer:", " ### end of turn ###"


@dataclass
class ChatServer(ModelServer):
    """Attributes beyond those of `ModelServer`:

    goes_on: "asked": it goes on after a last assistant turn when told to (vLLM's settings); "always": whenever there
        is one (llama.cpp's); "never".
    max_logprobs: how many of the likeliest first tokens it gives at most; None: it refuses to give any.
    busy: (status, Retry-After) of answers that come first, one each.
    """

    goes_on: str = "asked"
    busy: list[tuple[int, str]] = field(default_factory=list)
    pages: tuple[str, ...] = ("/v1/models", "/v1/chat/completions")

    def rendered(self, messages: list[dict], left_open: bool = False) -> list[int]:
        """The prompt's ids: turns in this server's own template."""
        turns = [f"{turn['role']}: {turn['content']}" for turn in messages]
        if left_open:
            return encode(self.variant.tokenizer, CLOSE.join(turns[:-1]) + CLOSE + OPEN + messages[-1]["content"])
        return encode(self.variant.tokenizer, CLOSE.join(turns) + CLOSE + OPEN)

    def answer(self, path: str, body: dict | None, key: str | None) -> tuple[int, dict]:
        if path.endswith("/chat/completions") and self.busy:
            status, pause = self.busy.pop(0)
            return status, {"error": {"message": "slow down"}, "_headers": {"Retry-After": pause}}
        return super().answer(path, body, key)

    def _complete(self, body: dict) -> tuple[int, dict]:
        variant, messages = self.variant, body["messages"]
        wants = body.get("continue_final_message", False)
        if wants and self.goes_on != "asked":
            return 400, {"error": {"message": "Unrecognized request argument: continue_final_message"}}
        ids = self.rendered(messages, messages[-1]["role"] == "assistant" and (wants or self.goes_on == "always"))
        n = body.get("top_logprobs") or 0
        if body.get("logprobs") and (self.max_logprobs is None or n > self.max_logprobs):
            return 400, {"error": {"message": "logprobs are not available"}}
        if len(ids) + body["max_tokens"] > variant.max_length:
            return 400, {"error": {"message": "maximum context length exceeded"}}
        new = self._written(ids, {name: value for name, value in body.items() if name not in self.deaf})
        ended = new[-1] in variant.eos_ids
        text = variant.tokenizer.decode(new[:-1] if ended else new, skip_special_tokens=True)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop" if ended else "length",
        }
        if body.get("logprobs"):
            best = [
                {"token": self.spelled(token), "bytes": list(self.spelled(token).encode()), "logprob": value}
                for token, value in _likeliest(variant, ids, n)
            ]
            choice["logprobs"] = {"content": [{**best[0], "top_logprobs": best}]}
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(new)}
        return 200, {"choices": [choice], "usage": usage, "model": self.name}

    def spelled(self, token: int) -> str:
        entry = self.variant.tokenizer.convert_ids_to_tokens(token)
        if entry is None:
            return f"<unused {token}>"
        return entry.replace("▁", " ") if "▁" in entry else self.variant.tokenizer.decode([token])

    def first_tokens(self, messages: list[dict], left_open: bool = False) -> dict[str, float]:
        """What it says of the first token, by what is written: text -> probability, of the whole vocabulary."""
        found: dict[str, float] = {}
        for token, value in _likeliest(self.variant, self.rendered(messages, left_open), 10**6):
            found[self.spelled(token)] = found.get(self.spelled(token), 0.0) + math.exp(value)
        return found
