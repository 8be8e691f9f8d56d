"""A real HTTP server for tests: /v1/models and /v1/completions over a model that `scoring.reference` answers for.

It speaks as vLLM does (token-id prompts, echo, token_ids on request); its switches turn it into servers that can less.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch

from tiltmeter.scoring import reference
from tiltmeter.scoring.requests import Generation

OPENAI = {"prompt", "model", "max_tokens", "temperature", "top_p", "stop", "seed", "logprobs", "echo"}


@dataclass
class ModelServer:
    """Serves `variant` while used as a context manager; `address` is what a person types.

    Attributes:
        adds_bos: puts a BOS before every prompt, also before one of token ids.
        no_echo: ignores `echo`.
        llama_cpp: speaks as llama.cpp's server does: no echo, ids and likeliest tokens (any number of them) beside
            log-probabilities only, a penalty of another name; what it does not know it ignores.
        max_logprobs: how many of the likeliest tokens it gives at most (vLLM's own limit is 20); None: none.
        by_id: gives the log-probabilities of ids that are named, as vLLM does.
        deaf: settings that it takes and ignores.
        openai_only: refuses settings that OpenAI's interface does not name, and returns no token ids.
        vocabulary_shift: reads token id n as n + shift: another tokenizer.
        key: the key it wants.
        dies_after: completions after which every further one gets status 500 (None: never).
        pages: paths that exist.
        requests: bodies of all completions asked for; keys: Authorization headers that came.
    """

    variant: object
    name: str = "stories"
    max_model_len: int | None = None
    adds_bos: bool = False
    no_echo: bool = False
    openai_only: bool = False
    llama_cpp: bool = False
    max_logprobs: int | None = 20
    by_id: bool = True
    deaf: tuple[str, ...] = ()
    vocabulary_shift: int = 0
    key: str | None = None
    dies_after: int | None = None
    status: int | None = None
    pages: tuple[str, ...] = ("/v1/models", "/v1/completions")
    requests: list[dict] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)

    def __enter__(self) -> ModelServer:
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str, body: dict | None, key: str | None) -> tuple[int, dict]:
        self.keys.add(key or "")
        if self.key and key != f"Bearer {self.key}":
            return 401, {"error": {"message": f"Incorrect API key provided: {key}"}}
        if path not in self.pages:
            return 404, {"error": {"message": "Not Found"}}
        if self.status:
            return self.status, {"error": {"message": "out of order"}}
        if path == "/v1/models":
            return 200, {"data": [{"id": self.name, "created": id(body), "max_model_len": self.max_model_len}]}
        with self._lock:
            self.requests.append(body)
            if self.dies_after is not None and len(self.requests) > self.dies_after:
                return 500, {"error": {"message": f"CUDA error; your key was {key}"}}
            return self._complete(body)

    def _complete(self, body: dict) -> tuple[int, dict]:
        if body["model"] != self.name:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        unknown = sorted(set(body) - OPENAI)
        if self.openai_only and unknown:
            return 400, {"error": {"message": f"Unrecognized request argument: {unknown[0]}"}}
        variant, tokenizer = self.variant, self.variant.tokenizer
        size = variant.model.config.vocab_size
        [prompt] = body["prompt"]
        ids = [(token + self.vocabulary_shift) % size for token in prompt]
        ids = [tokenizer.bos_token_id, *ids] if self.adds_bos else ids
        if len(ids) + body["max_tokens"] > (self.max_model_len or variant.max_length):
            return 400, {"error": {"message": "maximum context length exceeded"}}
        if body.get("echo") and self.llama_cpp:
            return 400, {"error": {"message": "Only no echo is supported"}}
        wanted = body.get("logprobs")
        if wanted and self.max_logprobs and not self.llama_cpp and wanted > self.max_logprobs:
            return 400, {"error": {"message": f"Requested logprobs of {wanted}, max is {self.max_logprobs}"}}
        new = self._written(ids, {name: value for name, value in body.items() if name not in self.deaf})
        ended = new[-1] in variant.eos_ids
        written = new[:-1] if ended else new
        echo = body.get("echo") and not self.no_echo
        text = tokenizer.decode([*ids, *written], skip_special_tokens=True)
        before = tokenizer.decode(ids, skip_special_tokens=True)
        choice = {
            "index": 0,
            "text": text if echo else text[len(before) :],
            "finish_reason": "stop" if ended else "length",
        }
        if body.get("return_token_ids") and not self.openai_only and not self.llama_cpp:
            choice["token_ids"] = new
        if wanted and self.llama_cpp:
            choice["logprobs"] = {"content": _content(variant, ids, new, wanted)}
        elif wanted:
            seen = [*(ids if echo else []), *new]
            scores = _logprobs(variant, [*ids, *new])[-len(seen) :]
            choice["logprobs"] = {
                "tokens": [tokenizer.decode([token]) for token in seen],
                "token_logprobs": scores,
                "top_logprobs": None,
            }
            if self.max_logprobs and not echo:
                best = _likeliest(variant, ids, wanted)
                if self.by_id and body.get("logprob_token_ids"):
                    best = [each for each in _likeliest(variant, ids, size) if each[0] in body["logprob_token_ids"]]
                spell = _as_id if body.get("return_tokens_as_token_ids") else lambda token: tokenizer.decode([token])
                choice["logprobs"]["top_logprobs"] = [{spell(token): value for token, value in best}]
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(new)}
        return 200, {"choices": [choice], "usage": usage, "model": self.name}

    def _written(self, ids: list[int], body: dict) -> list[int]:
        """The new ids under a request's settings, all of which this server knows but the one of the other's name."""
        penalty = body.get("repeat_penalty" if self.llama_cpp else "repetition_penalty", 1.0)
        narrow = body.get("top_k") == 1 or body.get("min_p") == 1.0
        temperature = 0.0 if narrow else body.get("temperature", 1.0)
        if penalty != 1.0:
            return _penalised(self.variant, ids, body["max_tokens"], penalty)
        settings = temperature, body.get("top_p", 1.0), body.get("seed", 0)
        return reference.new_ids(self.variant, ids, Generation("", body["max_tokens"], *settings))


def _penalised(variant: object, ids: list[int], n: int, penalty: float) -> list[int]:
    """Greedy, the logits of what was there before divided by the penalty (multiplied where negative)."""
    seen = list(ids)
    for _ in range(n):
        logits = reference.next_logits(variant, seen)(None).copy()
        there = sorted(set(seen))
        logits[there] = [value / penalty if value > 0 else value * penalty for value in logits[there]]
        seen.append(int(logits.argmax()))
    return seen[len(ids) :]


def _likeliest(variant: object, ids: list[int], n: int) -> list[tuple[int, float]]:
    with torch.inference_mode():
        logprobs = variant.model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
    values, tokens = logprobs.topk(min(n, len(logprobs)))
    return list(zip(tokens.tolist(), values.tolist()))


def _as_id(token: int) -> str:
    return f"token_id:{token}"


def _content(variant: object, ids: list[int], new: list[int], n: int) -> list[dict]:
    def entry(token: int, value: float | None) -> dict:
        return {"id": token, "token": variant.tokenizer.decode([token]), "logprob": value}

    scores = _logprobs(variant, [*ids, *new])[-len(new) :]
    return [
        entry(token, scores[place])
        | {"top_logprobs": [entry(*each) for each in _likeliest(variant, [*ids, *new[:place]], n)]}
        for place, token in enumerate(new)
    ]


@torch.inference_mode()
def _logprobs(variant: object, ids: list[int]) -> list[float | None]:
    logits = variant.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return [None, *(float(logits[place, token]) for place, token in enumerate(ids[1:]))]


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(*server.answer(self.path, None, self.headers.get("Authorization")))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(*server.answer(self.path, body, self.headers.get("Authorization")))

        def _send(self, status: int, body: dict) -> None:
            headers = body.pop("_headers", {})
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    return Handler
