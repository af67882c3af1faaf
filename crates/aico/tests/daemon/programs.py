"""The official clients of OpenAI and of Ollama against a running daemon.

Called by programs.rs with the name of a part. AICO_ADDRESS is host and port, AICO_TOKEN the named
token, AICO_SESSION the token of a session.
"""

import os
import sys

import httpx
import ollama
import openai

ADDRESS = "http://" + os.environ["AICO_ADDRESS"]
TOKEN = os.environ["AICO_TOKEN"]
# How an answer may end: a model of a megabyte does not always find an end of its own.
ENDS = ("stop", "length")


def openai_client(token=TOKEN):
    # Without repeats: each status is looked at as it comes.
    return openai.OpenAI(base_url=ADDRESS + "/v1", api_key=token, max_retries=0, timeout=120)


def ollama_client(token=TOKEN):
    return ollama.Client(ADDRESS, headers={"Authorization": "Bearer " + token}, timeout=120)


def said(text):
    return [{"role": "user", "content": text}]


def fails(kind, status, work):
    try:
        work()
    except kind as error:
        assert error.status_code == status, error
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def model():
    ids = [model.id for model in openai_client().models.list()]
    assert ids[0] == "aico" and len(ids) == 2, ids
    return ids[1]


def chat():
    client, name = openai_client(), model()
    chat = client.chat.completions
    for asked in [name, "aico"]:
        assert client.models.retrieve(asked).id == asked
        whole = chat.create(model=asked, messages=said("Hello"), max_tokens=64)
        assert whole.model == asked and whole.choices[0].message.role == "assistant"
        assert whole.choices[0].message.content, whole
        assert whole.choices[0].finish_reason in ENDS
        usage = whole.usage
        assert usage.prompt_tokens > 0 and usage.completion_tokens > 0
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        chunks = list(
            chat.create(
                model=asked,
                messages=said("Hello"),
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text and chunks[-1].usage.completion_tokens > 0
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ENDS
    # The same choice each time; the first one, which computes the prompt, apart.
    same = [
        chat.create(model=name, messages=said("Tell me a story"), seed=7, temperature=1.5)
        for _ in range(4)
    ]
    assert len({one.choices[0].message.content for one in same[1:]}) == 1, same
    cut = chat.create(model=name, messages=said("Hello"), max_tokens=1)
    assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 1
    whole = chat.create(model=name, messages=said("Hello"), temperature=0)
    text = whole.choices[0].message.content
    letter = next(c for c in text[1:] if c.isalpha())
    stopped = chat.create(model=name, messages=said("Hello"), temperature=0, stop=letter)
    assert stopped.choices[0].message.content == text.split(letter)[0]

    client = ollama_client()
    names = [model.model for model in client.list().models]
    assert names == ["aico:latest", name + ":latest"], names
    for asked in names:
        whole = client.chat(asked, messages=said("Hello"))
        assert whole.message.content and whole.done and whole.done_reason in ENDS
        assert whole.eval_count > 0 and whole.prompt_eval_count > 0 and whole.total_duration > 0
        parts = list(client.chat(asked, messages=said("Hello"), stream=True))
        assert "".join(part.message.content for part in parts) and parts[-1].done
        parts = list(client.generate(asked, "Hello", stream=True, options={"num_predict": 64}))
        assert "".join(part.response for part in parts) and parts[-1].done
        assert client.show(asked).capabilities == ["completion"]
    assert client.chat(name, messages=[]).done_reason == "load"
    assert [one.model for one in client.ps().models] == [name + ":latest"]
    assert client.show(name).modelinfo["general.architecture"] == "llama"


def refused():
    client, chat = openai_client(), openai_client().chat.completions
    name = model()
    fails(openai.NotFoundError, 404, lambda: chat.create(model="none", messages=said("x")))
    fails(openai.NotFoundError, 404, lambda: client.models.retrieve("none"))
    embedding = lambda: client.embeddings.create(model=name, input="Hello")
    assert "embeddings" in str(fails(openai.BadRequestError, 400, embedding))
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    for more, param in [
        ({"tools": [tool]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"n": 2}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"extra_body": {"surprise": 1}}, "body"),
    ]:
        error = fails(
            openai.BadRequestError,
            400,
            lambda: chat.create(model=name, messages=said("x"), **more),
        )
        assert error.param == param and error.type == "invalid_request_error", error.body
    picture = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    fails(openai.BadRequestError, 400, lambda: chat.create(model=name, messages=said(picture)))
    too_long = lambda: chat.create(model=name, messages=said("word " * 20_000))
    assert fails(openai.BadRequestError, 400, too_long).code == "context_length_exceeded"
    too_large = lambda: chat.create(model=name, messages=said("x" * (2 << 20)))
    fails(openai.APIStatusError, 413, too_large)

    client = ollama_client()
    fails(ollama.ResponseError, 404, lambda: client.chat("none", messages=said("x")))
    fails(ollama.ResponseError, 404, lambda: client.show("none"))
    fails(ollama.ResponseError, 404, lambda: client.pull("none"))
    fails(ollama.ResponseError, 400, lambda: client.embed(name, "Hello"))
    fails(ollama.ResponseError, 400, lambda: client.chat(name, messages=said("x"), tools=[tool]))
    fails(ollama.ResponseError, 400, lambda: client.generate(name, "x", format="json"))
    large = "x" * (2 << 20)
    fails(ollama.ResponseError, 413, lambda: client.generate(name, large))

    head = {"Authorization": "Bearer " + TOKEN}
    for path in ["/v1/chat/completions", "/api/chat"]:
        for body in [b"", b"{", b"[]", b'{"messages": 1}', b"\xff", b'{"a":' * 5000]:
            answer = httpx.post(ADDRESS + path, content=body, headers=head)
            assert answer.status_code == 400 and "error" in answer.json(), answer.text
        foreign = head | {"Origin": "https://evil.example"}
        answer = httpx.post(ADDRESS + path, content=b"{}", headers=foreign)
        assert answer.status_code == 403 and "error" in answer.json(), answer.text


def strangers():
    """Tokens that are none."""
    session = os.environ["AICO_SESSION"]
    swapped = TOKEN[:-1] + ("A" if TOKEN[-1] != "A" else "B")
    for token in ["none", "sk-" + "x" * 48, swapped, TOKEN + "x", session]:
        client = openai_client(token)
        fails(openai.AuthenticationError, 401, lambda: client.models.list())
        error = fails(
            openai.AuthenticationError,
            401,
            lambda: client.chat.completions.create(model="aico", messages=said("x")),
        )
        assert error.code == "invalid_api_key", error.body
        client = ollama_client(token)
        fails(ollama.ResponseError, 401, lambda: client.list())
        fails(ollama.ResponseError, 401, lambda: client.chat("aico", messages=said("x")))
    fails(ollama.ResponseError, 401, lambda: ollama.Client(ADDRESS).list())
    # And a named token opens nothing else.
    head = {"Authorization": "Bearer " + TOKEN}
    assert httpx.get(ADDRESS + "/api/v1/me", headers=head).status_code == 401
    assert httpx.get(ADDRESS + "/api/v1/me", headers={"X-Api-Key": TOKEN}).status_code == 401


def memory():
    """A conversation that this program keeps: the companion goes on in the same one."""
    messages = said("My name is Zorblax.")
    chat = openai_client().chat.completions
    answer = chat.create(model="aico", messages=messages).choices[0].message.content
    messages += [{"role": "assistant", "content": answer}] + said("What is my name?")
    answer = chat.create(model="aico", messages=messages).choices[0].message.content
    messages += [{"role": "assistant", "content": " " + answer + "\n"}] + said("Thank you!")
    parts = list(ollama_client().chat("aico", messages=messages, stream=True))
    assert parts[-1].done


def edited():
    """Answers that were changed: the same conversation up to there, another where there is none."""
    chat = openai_client().chat.completions
    answer = lambda all: chat.create(model="aico", messages=all).choices[0].message.content
    first = said("I like walnuts.")
    first += [{"role": "assistant", "content": answer(first)}]
    second = first + said("And tea.")
    answer(second)
    other = [{"role": "assistant", "content": "Tea it is."}]
    answer(second + other + said("Thank you!"))
    # Nothing that was said here before.
    answer(said("I like plums.") + other + said("Thank you!"))


def gone():
    """The token was revoked."""
    fails(openai.AuthenticationError, 401, lambda: openai_client().models.list())
    fails(ollama.ResponseError, 401, lambda: ollama_client().list())


def locked():
    error = fails(openai.InternalServerError, 503, lambda: openai_client().models.list())
    assert error.code == "locked", error.body
    fails(ollama.ResponseError, 503, lambda: ollama_client().list())


def endless():
    """Streams without end: each is told as soon as it has begun, and given up after a line."""
    name, answers = sys.argv[2], []
    chat = openai_client().chat.completions
    for asked in [name, "aico"]:
        answers.append(iter(chat.create(model=asked, messages=said("Hello"), stream=True)))
        while not next(answers[-1]).choices[0].delta.content:
            pass
        answers.append(ollama_client().chat(asked, messages=said("Hello"), stream=True))
        next(answers[-1])
    print("streaming", flush=True)
    sys.stdin.readline()
    # The process ends with its connections, as a program does that is closed.
    os._exit(0)


globals()[sys.argv[1]]()
