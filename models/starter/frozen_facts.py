"""The facts of the held-out cases, frozen as they were when the cases were drawn.

They stay as they are, so that the cases stay the same while the texts of the training grow. The
first stage of the training uses them too, without what is held. `held_tells` and `held_asks` are phrasings for the score alone.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fact:
    name: str
    value: str
    tells: list[str]
    asks: list[str]
    recall: str
    unknown: str
    acks: list[str]
    corrections: list[str]
    held_tells: list[str]
    held_asks: list[str]
    subjects: list[str] = field(default_factory=list)
    # "is" or "are" is written `{is}`; a value that depends on the subject has its pool here.
    value_by_subject: bool = False
    weight: float = 1.0


RELATIVES = """sister brother mother father son daughter wife husband friend aunt uncle grandmother
grandfather cousin boyfriend girlfriend partner boss neighbour colleague teacher""".split()
RELATIVES += ["best friend", "little sister", "big brother"]
PETS = "dog cat rabbit hamster parrot horse pony bird fish turtle mouse goat duck canary".split()
PETS += ["guinea pig"]
DAYS = ["tomorrow", "tonight", "next week", "at the weekend", "on Monday", "on Tuesday",
        "on Wednesday", "on Thursday", "on Friday", "on Saturday", "on Sunday", "next month",
        "this evening", "next summer"]  # fmt: skip
FAVOURITES = "colour food music book drink sport season animal".split()
SHORT_CORRECTIONS = [
    "no, (it is|it's) {v}", "(sorry|oh|oops), I meant {v}", "(actually|no), {v}",
    "that is (wrong|not right), it is {v}", "I mean {v}",
]  # fmt: skip

FACTS = [
    Fact(
        "name", "person", weight=3,
        tells=["my name is {v}", "my name's {v}", "(I am|I'm) {v}", "(you can|please|) call me {v}",
               "(I am|I'm) called {v}", "(people|friends|they|all) call me {v}", "(hi|hello|hey), (I am|I'm) {v}",
               "(hi|hello|hey), my name is {v}", "the name is {v}", "my first name is {v}"],
        asks=["what is my name", "what's my name", "(do you know|do you remember|can you tell me|tell me|say) my name",
              "who am I", "what am I called", "(do you know|do you remember|can you tell me|tell me) (what my name is|who I am|what I am called)",
              "what did I say my name (was|is)", "how am I called", "what do (people|you) call me"],
        recall="Your name is {v}.", unknown="You have not told me your name yet. What is it?",
        acks=["Nice to meet you, {v}! How are you today?", "Hello {v}, I am glad to know your name."],
        corrections=["no, my name is {v}", "(that is|that's) (wrong|not right|not my name), (my name is|I am|I'm called) {v}",
                     "actually my name is {v}", "my name is not that, it is {v}", "no, I am {v}", "no, call me {v}",
                     "my real name is {v}"],
        held_tells=["Hello Aico, my name is {v}, nice to meet you", "Everybody calls me {v}"],
        held_asks=["Remind me, what was my name again?", "You still know my name, right?", "Could you say what I am called?"],
    ),
    Fact(
        "relative", "person", subjects=RELATIVES, weight=2,
        tells=["my {s} is called {v}", "my {s}'s name is {v}", "(I have|I've got) a {s} (called|named) {v}",
               "the name of my {s} is {v}", "{v} is my {s}", "my {s} is {v}", "my {s} {v} (called me|came to see me|is here|is funny) (today|)"],
        asks=["what is my {s} called", "what is my {s}'s name", "what is the name of my {s}", "what's the name of my {s}",
              "who is my {s}", "(do you know|do you remember|tell me|can you tell me) (what my {s} is called|my {s}'s name|the name of my {s}|who my {s} is)",
              "how is my {s} called", "do I have a {s}"],
        recall="Your {s} is called {v}.", unknown="You have not told me about your {s} yet.",
        acks=["It is good to know that your {s} is called {v}. What is special about {v}?", "I will remember your {s} {v}. How are things with {v}?"],
        corrections=["no, my {s} is called {v}", "(that is|that's) (wrong|not right), my {s} is called {v}", "actually my {s}'s name is {v}"],
        held_tells=["I also have a {s}, the name is {v}", "The person I call my {s} is {v}"],
        held_asks=["Remind me what my {s} is called", "Which name does my {s} have?"],
    ),
    Fact(
        "pet", "pet_name", subjects=PETS, weight=2,
        tells=["my {s} is called {v}", "my {s}'s name is {v}", "(I have|I've got|we have|I own) a {s} (called|named) {v}",
               "the name of my {s} is {v}", "(I have|we have) a {s}, (its|her|his) name is {v}", "{v} is my {s}", "(I have|I've got) a {s} and it is called {v}",
               "my {s} {v} (is asleep|is so sweet|ran away|likes me|is ill)"],
        asks=["what is my {s} called", "what is my {s}'s name", "what is the name of my {s}", "what's the name of my {s}",
              "(do you know|do you remember|tell me|can you tell me) (what my {s} is called|my {s}'s name|the name of my {s})", "how is my {s} called",
              "do I have a {s}", "what did I call my {s}"],
        recall="Your {s} is called {v}.", unknown="You have not told me about your {s} yet.",
        acks=["{v} is a fine name for a {s}. What does {v} like?", "I will remember your {s} {v}. How is {v} today?"],
        corrections=["no, my {s} is called {v}", "(that is|that's) (wrong|not right), my {s} is called {v}", "actually my {s}'s name is {v}"],
        held_tells=["At home there is a {s} named {v}", "We got a {s} and named it {v}"],
        held_asks=["Remind me of the name of my {s}", "What name did I give my {s}?"],
    ),
    Fact(
        "home", "place", weight=2,
        tells=["I live in {v}", "(my home is|I am at home|my flat is|my house is) in {v}", "I (am living|have lived for years) in {v}", "I live in {v} (with my family|now|)",
               "I moved to {v}", "(we|my family and I) live in {v}"],
        asks=["where do I live", "(do you know|do you remember|can you tell me|tell me) where I live", "(what|which) (city|town|place) do I live in", "where is my home", "where am I at home",
              "in which (city|town|place) do I live", "what is my home town", "where did I say I live"],
        recall="You live in {v}.", unknown="You have not told me where you live yet. Where is it?",
        acks=["It is good to know that you live in {v}. What do you like there?", "I will remember that you live in {v}. Do you like it there?"],
        corrections=["no, I live in {v}", "(that is|that's) (wrong|not right), I live in {v}", "actually I live in {v}", "I moved, I live in {v} now", "I don't live there any more, I live in {v} now"],
        held_tells=["For three years now I have lived in {v}", "My little flat is in {v}, I live there alone"],
        held_asks=["Remind me which town I live in", "Where is the place that I live?"],
    ),
    Fact(
        "origin", "place",
        tells=["I come from {v}", "I am from {v}", "I was born in {v}", "I grew up in {v}", "I am originally from {v}"],
        asks=["where do I come from", "where am I from", "where was I born", "where did I grow up", "(do you know|do you remember|tell me|can you tell me) where I (come from|am from|was born|grew up)"],
        recall="You come from {v}.", unknown="You have not told me where you come from yet. Where is it?",
        acks=["So you come from {v}. What do you remember of it?", "I will remember that you come from {v}."],
        corrections=["no, I come from {v}", "(that is|that's) (wrong|not right), I come from {v}", "actually I am from {v}"],
        held_tells=["As a child I grew up in {v}"],
        held_asks=["Which place do I come from?", "Remind me where I was born"],
    ),
    Fact(
        "job", "job", weight=1.5,
        tells=["I work as {v}", "(I am|I'm) {v}", "my job is {v}", "I am {v} (by trade|for a living|)", "I work as {v} (now|these days|)", "I earn my money as {v}", "I have a job as {v}"],
        asks=["what is my job", "what do I do for a living", "what do I work as", "what is my (work|profession|occupation)", "(do you know|do you remember|tell me|can you tell me) (what my job is|what I work as|my job|what I do for a living)",
              "as what do I work"],
        recall="You work as {v}.", unknown="You have not told me about your job yet. What is it?",
        acks=["So you work as {v}. What do you like about the job?", "I will remember that you work as {v}. Is the job hard?"],
        corrections=["no, I work as {v}", "(that is|that's) (wrong|not right), I work as {v}", "actually I am {v}", "I changed my job, I work as {v} now"],
        held_tells=["Since last year I work as {v}", "I have worked for a long time as {v}"],
        held_asks=["Remind me, what kind of job do I have?", "Which profession did I tell you?"],
    ),
    Fact(
        "liking", "liking", weight=2,
        tells=["I (like|love|enjoy) {v}", "I really (like|love|enjoy) {v}", "my hobby is {v}", "I am a fan of {v}", "I like {v} (a lot|very much|most)", "{v} makes me happy", "in my free time I (like|love|enjoy) {v}"],
        asks=["what do I (like|love|enjoy)", "what is my hobby", "what makes me happy", "(do you know|do you remember|tell me|can you tell me) (what I like|what I love|what I enjoy|my hobby)", "what did I say I (like|love|enjoy)",
              "what do I like to do", "what do I do in my free time", "which hobby do I have"],
        recall="You like {v}.", unknown="You have not told me what you like yet. What is it?",
        acks=["So you like {v}. What do you like most about it?", "I will remember that you like {v}. Since when?"],
        corrections=["no, I like {v}", "(that is|that's) (wrong|not right), I like {v}", "actually I like {v}"],
        held_tells=["What I really love is {v}", "After work I always enjoy {v}"],
        held_asks=["Remind me what I like to do", "Which things do I like?"],
    ),
    Fact(
        "dislike", "dislike",
        tells=["I (hate|dislike) {v}", "I (don't|do not) like {v}", "I can't stand {v}", "I really (hate|don't like) {v}", "I do not like {v} (at all|)"],
        asks=["what do I (hate|dislike)", "what do I not like", "what don't I like", "what can't I stand", "(do you know|do you remember|tell me|can you tell me) what I (hate|dislike|don't like|do not like|can't stand)"],
        recall="You do not like {v}.", unknown="You have not told me what you do not like. What is it?",
        acks=["I will remember that you do not like {v}. Why is that?", "So you do not like {v}. I understand."],
        corrections=["no, I hate {v}", "(that is|that's) (wrong|not right), I don't like {v}", "actually I hate {v}"],
        held_tells=["There is one thing I hate: {v}"],
        held_asks=["Which thing can't I stand?", "Remind me what I don't like"],
    ),
    Fact(
        "favourite", "", subjects=FAVOURITES, value_by_subject=True, weight=2.5,
        tells=["my (favourite|favorite) {s} is {v}", "my {s} of choice is {v}", "{v} is my (favourite|favorite) {s}", "the {s} I like (best|most) is {v}"],
        asks=["what is my (favourite|favorite) {s}", "what's my (favourite|favorite) {s}", "which {s} do I like (best|most)", "(do you know|do you remember|tell me|can you tell me) (my (favourite|favorite) {s}|what my favourite {s} is|which {s} I like best)"],
        recall="Your favourite {s} is {v}.", unknown="You have not told me your favourite {s} yet. What is it?",
        acks=["Good choice! I will remember that your favourite {s} is {v}.", "So your favourite {s} is {v}. What do you like about it?"],
        corrections=["no, my (favourite|favorite) {s} is {v}", "(that is|that's) (wrong|not right), my favourite {s} is {v}", "actually my favourite {s} is {v}"],
        held_tells=["Of all, my favourite {s} is surely {v}"],
        held_asks=["Remind me of my favourite {s}", "Which {s} is my favourite one?"],
    ),
    Fact(
        "plan", "plan", subjects=DAYS, weight=1.5,
        tells=["{s} I (will|want to|am going to|plan to|have to|would like to) {v}", "I (will|want to|am going to|plan to|have to|would like to) {v} {s}"],
        asks=["what (do I want to|will I|am I going to|do I have to) do {s}", "what (did I plan|are my plans|have I planned|is my plan) for {s}", "what do I plan {s}", "(do you know|do you remember|tell me|can you tell me) (what I want to do {s}|my plan for {s}|what I plan {s})"],
        recall="You want to {v} {s}.", unknown="You have not told me a plan for that time.",
        acks=["So you want to {v} {s}. I wish you luck with it!", "I will remember that you want to {v} {s}."],
        corrections=["no, I want to {v} {s}", "I changed my plan, {s} I will {v}", "actually I want to {v} {s}"],
        held_tells=["It is settled: {s} I will {v}"],
        held_asks=["Remind me what I want to do {s}", "Which plan did I make for {s}?"],
    ),
    Fact(
        "age", "age",
        tells=["(I am|I'm) {v} (years old|)", "my age is {v}", "I turned {v}", "I am {v} years old"],
        asks=["how old am I", "what is my age", "(do you know|do you remember|tell me|can you tell me) (how old I am|my age)", "how many years old am I"],
        recall="You are {v} years old.", unknown="You have not told me how old you are.",
        acks=["So you are {v} years old. A good age!", "I will remember that you are {v} years old."],
        corrections=["no, I am {v} years old", "(that is|that's) (wrong|not right), I am {v}", "actually I am {v} years old"],
        held_tells=["Next to that, I'm {v} years old now"],
        held_asks=["Remind me how old I am", "What age am I?"],
    ),
    Fact(
        "birthday", "date",
        tells=["my birthday is (on|) {v}", "I (was born|have my birthday|celebrate my birthday) on {v}", "{v} is my birthday"],
        asks=["when is my birthday", "(do you know|do you remember|tell me|can you tell me) (when my birthday is|my birthday|when I was born)", "when was I born", "what is (my date of birth|the date of my birthday)", "on which day is my birthday"],
        recall="Your birthday is on {v}.", unknown="You have not told me your birthday yet. When is it?",
        acks=["I will remember that your birthday is on {v}. How do you like to celebrate?", "Noted: your birthday is on {v}."],
        corrections=["no, my birthday is on {v}", "(that is|that's) (wrong|not right), my birthday is on {v}", "actually my birthday is on {v}"],
        held_tells=["Every year on {v} I have my birthday"],
        held_asks=["Remind me when my birthday is", "Which date is my birthday?"],
    ),
    Fact(
        "allergy", "allergen",
        tells=["I am allergic to {v}", "I have an allergy to {v}", "I can't have {v} because I am allergic", "my allergy is {v}"],
        asks=["what am I allergic to", "(do you know|do you remember|tell me|can you tell me) (what I am allergic to|my allergy|which allergy I have)", "which allergy do I have", "what is my allergy", "do I have an allergy"],
        recall="You are allergic to {v}.", unknown="You have not told me about an allergy.",
        acks=["That is important: you are allergic to {v}. I will remember it.", "I will remember that you are allergic to {v}. Take care!"],
        corrections=["no, I am allergic to {v}", "(that is|that's) (wrong|not right), I am allergic to {v}", "actually I am allergic to {v}"],
        held_tells=["My doctor says that I am allergic to {v}"],
        held_asks=["Remind me what I'm allergic to", "Which allergy did I tell you about?"],
    ),
    Fact(
        "thing", "spot", subjects=["thing"], weight=1.5,
        tells=["I (put|left) my {s} {v}", "I have (put|left) my {s} {v}", "my {s} (is|are|lies|lie) {v}", "(remember that|remember) my {s} (is|are) {v}", "I (put|left) the {s} {v}"],
        asks=["where (is|are) my {s}", "where did I (put|leave) my {s}", "(do you know|do you remember|tell me|can you tell me) where (I put my {s}|my {s} is|I left my {s})", "where have I put my {s}", "I can't find my {s}"],
        recall="You put your {s} {v}.", unknown="You have not told me where you put your {s}.",
        acks=["I will remember that you put your {s} {v}.", "Noted: you put your {s} {v}."],
        corrections=["no, my {s} is {v}", "actually I put my {s} {v}", "I moved my {s}, it is {v} now"],
        held_tells=["Just so you know, I put my {s} {v}"],
        held_asks=["Remind me where my {s} is", "At which spot did I leave my {s}?"],
    ),
]  # fmt: skip

FACT = {fact.name: fact for fact in FACTS}

SUMMARY_ASKS = [
    "what do you (know|remember) about me", "what have I told you (about me|about myself|so far|)",
    "tell me (what you know|all you know|everything) about me", "(say|tell me) something about me",
    "what did I tell you (about me|)", "describe me",
]  # fmt: skip
SUMMARY_HELD_ASKS = ["Which things about me do you remember?", "Sum up what you know about me"]
SUMMARY_UNKNOWN = "You have not told me anything about yourself yet. What would you like me to know?"
