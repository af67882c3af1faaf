"""What happens to a sentence on its way through the fingers of a person.

Every place for a value, such as `{v}`, stays as it is: names must arrive as they were typed.
"""

import re
from random import Random

_SWAPS = [
    (r"\bI am\b", ["I'm", "Im", "i am"]), (r"\bI'm\b", ["I am", "Im"]), (r"\b[Ww]hat is\b", ["what's", "whats"]),
    (r"\bdo not\b", ["don't", "dont"]), (r"\bdon't\b", ["do not", "dont"]), (r"\bI have\b(?! to)", ["I've", "Ive"]),
    (r"\bit is\b", ["it's", "its"]), (r"\bI will\b", ["I'll"]), (r"\byou are\b", ["you're", "youre"]),
    (r"\b[Ww]here is\b", ["where's"]), (r"\b[Ww]ho is\b", ["who's"]), (r"\b[Hh]ow is\b", ["how's"]),
    (r"\bcan't\b", ["cannot", "can not", "cant"]), (r"\bcannot\b", ["can't"]), (r"\bdid not\b", ["didn't"]),
    (r"\bwant to\b", ["wanna", "would like to", "wish to"]), (r"\bgoing to\b", ["gonna"]),
    (r"\bbecause\b", ["cause", "since", "as"]), (r"\bvery\b", ["really", "so", "super", "extremely", "truly"]),
    (r"\ba lot\b", ["very much", "so much", "lots"]), (r"\btoday\b", ["this day", "these hours", "now"]),
    (r"\bnobody\b", ["no one", "not a soul"]), (r"\bsomebody\b", ["someone"]), (r"\banybody\b", ["anyone"]),
    (r"\bmother\b", ["mum", "mom"]), (r"\bfather\b", ["dad"]), (r"\byour\b", ["ur"]), (r"\byou\b", ["u", "ya"]),
    (r"\bplease\b", ["pls", "plz"]), (r"\bgood\b", ["nice", "fine"]), (r"\bI have to\b", ["I must", "I need to"]),
    (r"\bcan you\b", ["could you", "would you", "will you"]), (r"\btell me\b", ["let me know"]),
    (r"\bfeel\b", ["am feeling"]), (r"\bis not\b", ["isn't"]), (r"\bI would\b", ["I'd"]), (r"\bthat is\b", ["that's"]),
    (r"\bfavourite\b", ["favorite"]), (r"\bone\b", ["1"]), (r"\bnever\b", ["not ever"]), (r"\bhelp\b", ["assist"]),
    (r"\bevery\b", ["each"]), (r"\balways\b", ["all the time", "constantly"]), (r"\bmaybe\b", ["perhaps"]),
]  # fmt: skip
_SWAP_RATES = 0.12
_SWAPS = [(re.compile(pattern), words) for pattern, words in _SWAPS]
_OPENERS = [
    "Aico, ", "hey, ", "well, ", "so, ", "oh, ", "hey Aico, ", "ok, ", "hmm, ", "by the way, ", "and ", "you know, ",
    "listen, ", "one thing: ", "to be honest, ", "I think ", "I wonder, ", "now, ", "honestly, ", "but ", "say, ",
    "come on, ", "one more thing: ", "my dear, ", "for the record, ", "once more: ", "please, ", "ah, ", "right, ", "um, ",
    "actually, ", "look, ", "excuse me, ", "sorry, ", "hello, ", "hi, ", "good, ", "yes, ", "no, ", "anyway, ", "then ",
    "just a thought: ", "between us, ", "you see, ", "quick one: ", "I must say, ", "ok so ", "let me say it: ", "also, ",
    "in fact, ", "frankly, ", "guess what, ", "thanks. ", "okay. ", "nice. ", "cool. ", "lol, ", "friend, ", "hi Aico, ",
    "I want to say: ", "another thing, ", "oh dear, ", "oh man, ", "gosh, ", "wow, ", "tja, ", "alright, ", "please Aico, ",
]  # fmt: skip
_ENDINGS = [
    ", please", " then", ", Aico", " again", " you know", " by the way", ", my friend", " for me", " in the end", " though",
    ", do you know", ", tell me", " as I said", " if you can", " at all", " these days", " really", ", honestly", " lol",
    " to be honest", ", you see", ", I think", " or so", ", right", " now", ", ok", " anyway", " too", ", I guess", " haha",
    " somehow", " I believe", ", you know", ", my dear", " actually", ", what do you think", " for sure", " or what",
]  # fmt: skip
_FILLERS = """really just maybe well actually then um like always kind-of now also simply exactly still even please
    honestly probably somehow perhaps only truly sort-of basically literally you-know of-course""".split()
_DROPPED = set("the a an so very really just please my of to is that quite pretty".split())
_GREETINGS = set("hello hi hey good morning oh no yes please so sorry thanks actually well okay ok".split())


def _swapped(text: str, rng: Random) -> str:
    """Some words said in other words."""
    for pattern, words in _SWAPS:
        if pattern.search(text) and rng.random() < _SWAP_RATES:
            text = pattern.sub(rng.choice(words), text)
    return text


def _mistyped(word: str, rng: Random) -> str:
    at = rng.randrange(1, len(word) - 1)
    return rng.choice([
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
    ])  # fmt: skip


def typed(text: str, rng: Random) -> str:
    """The sentence in other words, introduced, stretched, shortened or mistyped."""
    text = _swapped(text, rng)
    dice = rng.random()
    words = text.split(" ")
    if dice < 0.1:
        words.insert(rng.randint(1, len(words)), rng.choice(_FILLERS).replace("-", " "))
    elif dice < 0.16:
        kept = [word for word in words if word not in _DROPPED or rng.random() < 0.4]
        words = kept if len(kept) > 1 else words
    elif dice < 0.22:
        at = rng.randrange(len(words))
        if len(words[at]) > 3 and words[at].isalpha():
            words[at] = _mistyped(words[at], rng)
    text = " ".join(words)
    if rng.random() < 0.08 and text[-1].isalpha():
        text += rng.choice(_ENDINGS)
    first = re.split(r"\W", text, maxsplit=1)[0].lower()
    if rng.random() < 0.14 and first not in _GREETINGS:
        text = rng.choice(_OPENERS) + (text if text[:1] == "I" else text[:1].lower() + text[1:])
    return text
