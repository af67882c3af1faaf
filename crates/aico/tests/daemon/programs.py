"""The official clients of OpenAI and of Ollama against a running daemon.

Called by programs.rs with the name of a part. AICO_ADDRESS is host and port, AICO_TOKEN the named
token, AICO_SESSION the token of a session.
"""

import base64
import json
import os
import sys
import time
from typing import List, Literal

import httpx
import ollama
import openai
from pydantic import BaseModel, Field

ADDRESS = "http://" + os.environ["AICO_ADDRESS"]
TOKEN = os.environ["AICO_TOKEN"]
# How an answer may end: a model of a megabyte does not always find an end of its own.
ENDS = ("stop", "length")
# What a PNG begins with.
PNG = base64.b64decode("iVBORw0KGgo=")


def openai_client(token=TOKEN):
    # Without repeats: each status is looked at as it comes.
    return openai.OpenAI(base_url=ADDRESS + "/v1", api_key=token, max_retries=0, timeout=120)


def ollama_client(token=TOKEN):
    return ollama.Client(ADDRESS, headers={"Authorization": "Bearer " + token}, timeout=120)


def said(text):
    return [{"role": "user", "content": text}]


def shown(url="data:image/png;base64," + base64.b64encode(PNG).decode()):
    image = {"type": "image_url", "image_url": {"url": url}}
    return said([{"type": "text", "text": "What is it?"}, image])


def fails(kind, status, work):
    try:
        work()
    except kind as error:
        assert error.status_code == status, error
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def model():
    ids = [model.id for model in openai_client().models.list()]
    # The one that is chosen for everybody.
    assert ids[0] == "aico" and len(ids) > 1, ids
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
    # The starter's template has no place for tools; the companion calls none.
    for asked, code in [(name, "model-not-capable"), ("aico", "unsupported_parameter")]:
        call = lambda: chat.create(model=asked, messages=said("x"), tools=[tool])
        assert fails(openai.BadRequestError, 400, call).code == code
    schema = {"not": {"type": "string"}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    bound = lambda: chat.create(model=name, messages=said("x"), response_format=form)
    assert fails(openai.BadRequestError, 400, bound).code == "format-unusable"
    for more, param in [
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools"),
        ({"tools": [tool], "tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
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
    # The starter sees nothing, the companion takes none, and nothing is fetched for anybody.
    for asked, messages, code in [
        (name, shown(), "model-not-capable"),
        ("aico", shown(), "unsupported_parameter"),
        (name, shown("https://example.org/a.png"), "invalid_value"),
        (name, shown("data:image/png;base64,"), "invalid_value"),
    ]:
        picture = lambda: chat.create(model=asked, messages=messages)
        assert fails(openai.BadRequestError, 400, picture).code == code
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
    fails(ollama.ResponseError, 400, lambda: client.chat(name, messages=said("x"), think=True))
    for asked in [name, "aico"]:
        picture = lambda: client.generate(asked, "What is it?", images=[PNG])
        assert "images" in str(fails(ollama.ResponseError, 400, picture))
    broken = {"type": "string", "pattern": "(("}
    fails(ollama.ResponseError, 400, lambda: client.generate(name, "x", format=broken))
    fails(ollama.ResponseError, 400, lambda: client.generate("aico", "x", format="json"))
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


class Pet(BaseModel):
    kind: Literal["cat", "dog"]
    name: str = Field(max_length=8)
    tame: bool
    colours: List[Literal["black", "white"]] = Field(max_length=3)


def structured():
    """A model with random weights: what it says has the form because nothing else can come."""
    client, name = openai_client(), model()
    chat = client.chat.completions
    for seed in range(1, 6):
        ask = {"model": name, "messages": said("Which pet?"), "seed": seed, "temperature": 1.5}
        parsed = chat.parse(response_format=Pet, **ask).choices[0]
        assert isinstance(parsed.message.parsed, Pet) and parsed.finish_reason == "stop", parsed
        with chat.stream(response_format=Pet, **ask) as stream:
            assert isinstance(stream.get_final_completion().choices[0].message.parsed, Pet)
    ask = {"model": name, "messages": said("Anything"), "seed": 3, "max_tokens": 800}
    whole = chat.create(response_format={"type": "json_object"}, **ask).choices[0]
    assert whole.message.content.startswith("{")
    if whole.finish_reason == "stop":
        assert isinstance(json.loads(whole.message.content), dict)

    client = ollama_client()
    schema = Pet.model_json_schema()
    options = {"temperature": 1.5, "seed": 5}
    answer = client.chat(name, messages=said("Which pet?"), format=schema, options=options)
    assert Pet.model_validate_json(answer.message.content) and answer.done_reason == "stop"
    parts = list(client.generate(name, "Which?", format=schema, stream=True, options=options))
    assert Pet.model_validate_json("".join(part.response for part in parts))
    answer = client.generate(name, "Anything", format="json", options={"num_predict": 300})
    assert answer.response.startswith("{")


def tools():
    """A model that says nothing but the call of a tool."""
    client, name = openai_client(), model()
    function = {
        "name": "clock",
        "description": "Tells the time.",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}},
    }
    clock = {"type": "function", "function": function}
    messages = said("What time is it?")
    ask = {"model": name, "tools": [clock], "stop": "STOP", "temperature": 0}
    chat = client.chat.completions
    whole = chat.create(messages=messages, **ask).choices[0]
    assert whole.finish_reason == "tool_calls" and whole.message.content is None, whole
    (call,) = whole.message.tool_calls
    assert call.id and call.function.name == "clock"
    assert json.loads(call.function.arguments) == {"zone": "UTC"}
    with chat.stream(messages=messages, **ask) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    assert json.loads(final.message.tool_calls[0].function.arguments) == {"zone": "UTC"}
    messages += [whole.message, {"role": "tool", "tool_call_id": call.id, "content": "12:00"}]
    back = chat.create(messages=messages, tool_choice="auto", **ask)
    assert back.choices[0].message.tool_calls
    none = chat.create(messages=messages, tool_choice="none", **ask).choices[0]
    assert none.message.tool_calls is None and "</tool_call>" in none.message.content

    client = ollama_client()
    assert client.show(name).capabilities == ["completion", "tools", "thinking"]
    ask = {"tools": [clock], "options": {"stop": ["STOP"], "temperature": 0}}
    messages = said("What time is it?")
    for think in [None, True, False]:
        answer = client.chat(name, messages=messages, think=think, **ask)
        (call,) = answer.message.tool_calls
        assert call.function.name == "clock" and call.function.arguments == {"zone": "UTC"}
        assert answer.done_reason == "stop" and not answer.message.content
    messages += [answer.message, {"role": "tool", "tool_name": "clock", "content": "12:00"}]
    parts = list(client.chat(name, messages=messages, stream=True, **ask))
    calls = [call for part in parts for call in part.message.tool_calls or []]
    assert len(calls) == 1 and parts[-1].done


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


def embeddings():
    """Vectors of a package, as each client asks for them by itself and in its other ways."""
    client, name = openai_client(), "tiny-bert"
    assert name in [model.id for model in client.models.list()]
    texts = ["The cat sat on the mat.", "x " * 500]
    made = client.embeddings.create(model=name, input=texts)
    assert made.model == name and [item.index for item in made.data] == [0, 1]
    assert made.usage.prompt_tokens == made.usage.total_tokens > 40
    first = made.data[0].embedding
    assert len(first) == 24 and abs(sum(value * value for value in first) - 1) < 1e-4
    assert made.model_extra["truncated"] == [1], made.model_extra
    plain = client.embeddings.create(model=name, input=texts[0], encoding_format="float")
    near = lambda one, other: all(abs(a - b) < 1e-5 for a, b in zip(one, other, strict=True))
    assert near(plain.data[0].embedding, first)
    short = client.embeddings.create(model=name, input=texts[0], dimensions=6).data[0].embedding
    assert len(short) == 6 and abs(sum(value * value for value in short) - 1) < 1e-4
    many = client.embeddings.create(model=name, input=["text %d" % n for n in range(300)])
    assert len(many.data) == 300
    create = client.embeddings.create
    fails(openai.BadRequestError, 400, lambda: create(model=name, input=[[1, 2]]))
    fails(openai.BadRequestError, 400, lambda: create(model=name, input=""))
    fails(openai.NotFoundError, 404, lambda: create(model="tiny-none", input="x"))
    fails(openai.BadRequestError, 400, lambda: create(model=name, input="x", dimensions=25))

    client = ollama_client()
    assert name + ":latest" in [model.model for model in client.list().models]
    assert "embedding" in client.show(name).capabilities
    made = client.embed(name, texts)
    assert near(made.embeddings[0], first) and made.prompt_eval_count > 40
    assert len(client.embed(name, texts[0], dimensions=6).embeddings[0]) == 6
    assert near(client.embeddings(name, texts[0]).embedding, first)
    fails(ollama.ResponseError, 400, lambda: client.embed(name, texts, truncate=False))
    # One for labels makes no vectors, and is no model to chat with.
    fails(ollama.ResponseError, 404, lambda: client.embed("tiny-emotion", "x"))
    head = {"Authorization": "Bearer " + TOKEN}
    assert httpx.post(ADDRESS + "/api/v1/models/embed", json={"texts": []}, headers=head).status_code == 401


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


def names():
    """As both clients list them: the same, but for the tag."""
    ids = [model.id for model in openai_client().models.list()]
    tagged = [model.model for model in ollama_client().list().models]
    assert [tag.removesuffix(":latest") for tag in tagged] == ids, (tagged, ids)
    return ids


def streams_on():
    """A model that does not end; it goes on until a line comes."""
    client, asked = openai_client(), sys.argv[2]
    name = client.models.retrieve(asked).id
    assert name in names() and name.startswith("random-"), name
    chunks = iter(
        client.chat.completions.create(model=name, messages=said("Hello"), stream=True)
    )
    while not next(chunks).choices[0].delta.content:
        pass
    print("streaming", flush=True)
    sys.stdin.readline()
    chunks.close()
    os._exit(0)


def beside_it():
    """The one chosen for everybody answers, and a model goes on for another program."""
    client, endless, tiny = ollama_client(), sys.argv[2], sys.argv[3]
    chosen = model()
    long = openai_client().models.retrieve(endless).id
    other = openai_client().models.retrieve(tiny).id
    assert len({chosen, long, other, "aico"}) == 4
    answer = client.chat(chosen, messages=said("Hello"))
    assert answer.message.content and answer.model == chosen
    inside = {one.model: one for one in client.ps().models}
    assert set(inside) == {chosen + ":latest", long + ":latest"}, inside
    assert inside[chosen + ":latest"].expires_at
    # Somebody is being answered by it: it is not taken away.
    refused = fails(
        ollama.ResponseError, 409, lambda: client.chat(long, messages=[], keep_alive=0)
    )
    assert "answered" in str(refused), refused
    # A third one takes the place of the one that nobody asks, and that comes back.
    answer = client.generate(other, "Hello", options={"num_predict": 8})
    assert answer.done and answer.model == other
    assert {one.model for one in client.ps().models} == {other + ":latest", long + ":latest"}
    assert client.generate(chosen, "Hello", options={"num_predict": 8}).done
    # By the name that both files share, and with what Ollama adds.
    assert client.show(long + ":latest").modelinfo["general.architecture"] == "llama"
    assert client.show("Random").details.family == "llama"


def lets_go():
    """Each model leaves when a program says so, and comes back when it is asked."""
    client, name = ollama_client(), model()
    gone = lambda: name + ":latest" not in [one.model for one in client.ps().models]
    assert client.chat(name, messages=said("Hello")).done and not gone()
    assert client.chat(name, messages=[], keep_alive=0).done_reason == "unload"
    assert gone()
    assert client.generate(name, "Hello", options={"num_predict": 4}, keep_alive=0).done
    end = time.monotonic() + 30
    while not gone():
        assert time.monotonic() < end
        time.sleep(0.1)
    assert client.generate(name, keep_alive="5m").done_reason == "load" and not gone()


def file_gone():
    client, asked = openai_client(), sys.argv[2]
    assert not any(name.endswith(asked[-8:]) for name in names())
    fails(openai.NotFoundError, 404, lambda: client.models.retrieve(asked))
    ask = lambda: client.chat.completions.create(model=asked, messages=said("x"))
    assert fails(openai.InternalServerError, 503, ask).code == "model-missing"
    ask = lambda: ollama_client().chat(asked, messages=said("x"))
    assert "not there" in str(fails(ollama.ResponseError, 500, ask))


def of_server(server):
    """A model of a server, which is another AICO: not its companion."""
    found = [name for name in names() if name.startswith(server + "/")]
    assert server + "/aico" in found, found
    return next(name for name in found if name != server + "/aico")


def server_not_allowed():
    """Of two names for one server, one leads away from this machine."""
    near = of_server("near")
    assert not [name for name in names() if name.startswith("lab/")]
    far = near.replace("near/", "lab/")
    client = openai_client()
    ask = lambda: client.chat.completions.create(model=far, messages=said("My secret"))
    refused = fails(openai.PermissionDeniedError, 403, ask)
    assert refused.code == "engine-not-allowed" and "aico engine allow" in str(refused), refused
    fails(openai.PermissionDeniedError, 403, lambda: client.models.retrieve(far))
    ask = lambda: ollama_client().chat(far, messages=said("My secret"), stream=True)
    assert "allow" in str(fails(ollama.ResponseError, 403, lambda: list(ask())))
    # On this machine nothing has to be allowed.
    answer = client.chat.completions.create(model=near, messages=said("Hello"), max_tokens=8)
    assert answer.model == near and answer.choices[0].message.content


def server_allowed():
    name = of_server("lab")
    client = openai_client()
    assert client.models.retrieve(name).owned_by == "lab"
    ask = {"model": name, "messages": said("Hello"), "max_tokens": 8}
    assert client.chat.completions.create(**ask).choices[0].message.content
    chunks = client.chat.completions.create(stream=True, **ask)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    parts = list(ollama_client().chat(name, messages=said("Hello"), stream=True))
    assert "".join(part.message.content for part in parts) and parts[-1].done
    # How long it keeps a model is its own affair.
    assert ollama_client().chat(name, messages=[], keep_alive=0).done_reason == "unload"


def server_away():
    """Its models were listed; now nobody is there."""
    client, name = openai_client(), "near/aico"
    ask = lambda: client.chat.completions.create(model=name, messages=said("x"))
    refused = fails(openai.InternalServerError, 502, ask)
    assert refused.code == "engine-absent" and "near does not run" in str(refused), refused
    # It is left alone for a moment; why is still said.
    ask = lambda: ollama_client().chat(name, messages=said("x"))
    assert "near does not run" in str(fails(ollama.ResponseError, 502, ask))


def ollama_beside():
    client = ollama_client()
    all = names()
    assert "chat" in all and "clever:8b" in all and "vectors" in all, all
    for asked in ["chat", "chat:latest", "clever:8b"]:
        answer = client.chat(asked, messages=said("Hello"))
        assert answer.message.content == "Hello there." and answer.model == asked, answer
    whole = openai_client().chat.completions.create(model="chat", messages=said("Hello"))
    assert whole.choices[0].message.content == "Hello there." and whole.model == "chat"
    assert client.show("clever:8b").capabilities == ["completion", "tools", "thinking", "vision"]
    # It makes vectors and holds no conversation.
    refused = fails(ollama.ResponseError, 400, lambda: client.chat("vectors", messages=said("x")))
    assert "does not support chat" in str(refused), refused
    assert len(client.embed("vectors", "x").embeddings) == 1


def ollama_sees():
    """Each shape sends one image to the model that sees; the other one is sent none."""
    client, asked = ollama_client(), "clever:8b"
    messages = [{"role": "user", "content": "What is it?", "images": [PNG]}]
    assert client.chat(asked, messages=messages).message.content == "Hello there."
    assert client.generate(asked, "What is it?", images=[PNG]).response == "Hello there."
    chat = openai_client().chat.completions
    whole = chat.create(model=asked, messages=shown())
    assert whole.choices[0].message.content == "Hello there.", whole
    refused = fails(ollama.ResponseError, 400, lambda: client.chat("chat", messages=messages))
    assert "`chat` has nothing for images" in str(refused), refused
    picture = lambda: chat.create(model="chat", messages=shown())
    assert fails(openai.BadRequestError, 400, picture).code == "model-not-capable"


def well_again():
    """It is asked again, and is not left alone."""
    answer = ollama_client().chat("chat", messages=said("Hello"))
    assert answer.message.content == "Hello there.", answer


def ollama_fails():
    code = sys.argv[2]
    ask = lambda: openai_client().chat.completions.create(model="chat", messages=said("Hello"))
    assert fails(openai.InternalServerError, 502, ask).code == code
    body = {"model": "chat", "messages": said("Hello"), "stream": False}
    head = {"Authorization": "Bearer " + TOKEN}
    answer = httpx.post(ADDRESS + "/api/chat", json=body, headers=head)
    assert (answer.status_code, answer.json()["code"]) == (502, code), answer.text
    assert len(answer.json()["error"]) > 20
    well_again()


def ollama_breaks():
    """In a stream: what came before the error is kept."""
    code = sys.argv[2]
    head = {"Authorization": "Bearer " + TOKEN}
    body = {"model": "chat", "messages": said("Hello"), "stream": True}
    for path in ["/v1/chat/completions", "/api/chat"]:
        answer = httpx.post(ADDRESS + path, json=body, headers=head)
        if answer.status_code == 200:
            lines = [line for line in answer.text.splitlines() if line]
            told = json.loads(lines[-1].removeprefix("data: "))
            assert "[DONE]" not in answer.text
        else:
            assert answer.status_code == 502, answer.text
            told = answer.json()
        error = told["error"] if path.startswith("/v1") else told
        assert error["code"] == code, (path, answer.text)
    well_again()


def ollama_rests():
    ask = lambda: openai_client().chat.completions.create(model="chat", messages=said("Hello"))
    for _ in range(3):
        assert fails(openai.InternalServerError, 502, ask).code == "engine-failed"
    refused = fails(openai.InternalServerError, 502, ask)
    assert refused.code == "engine-failed" and "asked again in" in str(refused), refused


def metrics():
    """Rise with a question and name nobody; what there is of questions is printed."""
    head = {"Authorization": "Bearer " + TOKEN}

    def told():
        answer = httpx.get(ADDRESS + "/metrics", headers=head)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "Mia" not in answer.text and "Zanzibar" not in answer.text, answer.text
        sums = {}
        for line in answer.text.splitlines():
            if line.startswith("aico_model_"):
                name, value = line.split("{")[0], float(line.rsplit(" ", 1)[1])
                sums[name] = sums.get(name, 0) + value
        return sums

    before = told()
    openai_client().chat.completions.create(model=model(), messages=said("Zanzibar"), max_tokens=8)
    rise = ["questions", "prompt_tokens", "answer_tokens"]
    rise = [f"aico_model_{name}_total" for name in rise]
    rise.append("aico_model_time_to_first_token_seconds_count")
    until = time.monotonic() + 60
    # The answer is out a moment before it is counted.
    while not all((after := told())[name] > before[name] for name in rise):
        assert time.monotonic() < until, (before, after)
    for name, value in before.items():
        if name.endswith(("_total", "_count", "_sum", "_bucket")):
            assert after[name] >= value, name
    print(int(after["aico_model_questions_total"]))


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
