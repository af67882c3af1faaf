"""The values that people put into facts: names, places, jobs, foods and so on.

Every pool has two halves that never meet. `TRAIN` feeds the training conversations, `HELDOUT`
feeds the score alone. Beside the real words, training draws invented words made of syllables, so
that the network has to learn copying and can't get by with a list of known names.
"""

from random import Random


def words(text: str) -> list[str]:
    """One value per word."""
    return text.split()


def lines(text: str) -> list[str]:
    """One value per comma-separated item, which may hold several words."""
    return [item.strip() for item in text.replace("\n", " ").split(",") if item.strip()]


_HELDOUT_DATES = ["3 March", "9 October", "12 May", "22 August", "6 January"]

TRAIN = {
    "person": words("""
        Mia Leo Anna Tom Nora Sam Ida Max Eva Paul Lena Finn Zoe Ben Clara Jan Ruth Otto Kai Lily
        Amir Aisha Bruno Carla Dario Elif Farah Greta Hugo Ines Jonas Karim Laila Marta Nils Olga
        Pedro Quinn Rosa Selma Tariq Ursula Viktor Wanda Xenia Yusuf Zara Adam Beth Cora Dean Edith
        Frank Gina Harry Iris Jack Kate Liam Molly Ned Oscar Polly Ralph Sara Tess Una Vera Will
        Andrea Boris Cecil Dina Emil Flora Gustav Hanna Igor Judith Klaus Linda Martin Natalie Omar
        Petra Rafael Simon Thea Ulrich Vanessa Walter Yvonne Marcus Daniel Sophie Oliver Maria Peter
        John David Laura Julia Michael Robert Susan Emma Noah Lucas Alex Chris Jamie Robin Taylor
        Priya Ravi Chen Mei Hiro Yuki Kofi Ama Lars Sven Astrid Pavel Jana Luca Giulia Mateo Sofia
    """),
    "pet_name": words("""
        Rex Luna Bello Minka Rocky Daisy Coco Felix Buddy Simba Tiger Socks Ginger Lucky Pepper
        Oreo Max Charlie Molly Bella Misty Shadow Smokey Rusty Ziggy Kiki Toby Sunny Pablo Snowy
        Fluffy Spot Nala Balu Gizmo Lola Milo Penny Poppy Teddy Whiskers Bruno Honey Lotte Paws
    """),
    "place": lines("""
        Berlin, Paris, Oslo, Rome, Vienna, Madrid, Lisbon, Prague, Dublin, Helsinki, London, Athens,
        Warsaw, Zurich, Hamburg, Munich, Milan, Lyon, Bergen, Porto, Seville, Krakow, Leeds, Cork,
        Boston, Chicago, Denver, Toronto, Sydney, Tokyo, Osaka, Delhi, Cairo, Lagos, Lima, Quito,
        New York, San Diego, Cape Town, Buenos Aires, Frankfurt, Cologne, Dresden, Turin, Naples,
        Spain, France, Norway, Canada, Brazil, Kenya, India, Japan, Turkey, a small village,
        a little town, the city, the countryside, a flat in the city, a house by the lake
    """),
    "job": lines("""
        a teacher, a nurse, a doctor, a baker, a driver, a cook, a painter, a writer, a farmer,
        a student, a lawyer, a singer, a waiter, a pilot, a gardener, a carpenter, a designer,
        a librarian, a mechanic, a plumber, a scientist, a programmer, a builder, a dancer,
        an engineer, an artist, an actor, an electrician, an accountant, an architect, an editor,
        a software developer, a police officer, a bus driver, a shop assistant, a tour guide,
        a fire fighter, a truck driver, a school teacher, a night nurse, an office manager
    """),
    "liking": lines("""
        painting, running, chess, reading, cooking, gardening, singing, hiking, swimming, dancing,
        football, tennis, music, old films, long walks, board games, cats, dogs, horses, the sea,
        the mountains, cycling, fishing, drawing, knitting, baking, travelling, photography, yoga,
        climbing, computers, trains, science fiction, poetry, rainy days, coffee, green tea,
        summer evenings, crossword puzzles, playing the piano, watching birds, sewing, skiing
    """),
    "dislike": lines("""
        spiders, loud noise, cold coffee, traffic, mondays, crowds, onions, early mornings, snakes,
        flying, waiting, rain, the dark, hot weather, long meetings, mushrooms, olives, lies,
        wasps, queues, housework, ironing, winter, horror films, heavy metal, broccoli, fish soup,
        the dentist, phone calls, being late, loud neighbours, cold showers, paperwork
    """),
    "food": lines("""
        pizza, soup, pasta, curry, salad, bread, rice, apples, noodles, cake, pancakes, cheese,
        chocolate, tomatoes, potatoes, eggs, sushi, ice cream, strawberries, fried rice, tacos,
        lasagne, dumplings, apple pie, burgers, roast chicken, lentil soup, falafel, waffles
    """),
    "colour": lines("""
        red, blue, green, yellow, purple, orange, black, white, pink, grey, brown, dark blue,
        light green, silver, gold, sky blue, dark red, olive green
    """),
    "music": lines("""
        jazz, rock, blues, folk, techno, opera, pop, classical music, hip hop, country music,
        reggae, soul, piano music, punk, metal, film music, choir music
    """),
    "book": lines("""
        The Silver Lake, Night Train, The Last Garden, Winter Bread, A House of Paper, The Blue Door,
        Letters from the Coast, The Long Road, Stone and Water, The Quiet Sea
    """),
    "drink": lines("""
        coffee, tea, water, apple juice, green tea, hot chocolate, lemonade, milk, red wine,
        orange juice, black coffee, mint tea, beer, cocoa
    """),
    "sport": lines("""
        football, tennis, swimming, running, cycling, basketball, boxing, skiing, volleyball,
        hockey, golf, rowing, climbing, table tennis
    """),
    "season": lines("spring, summer, autumn, winter, early spring, late summer"),
    "animal": lines("""
        the fox, the owl, the horse, the wolf, the bear, the whale, the cat, the eagle, the rabbit,
        the tiger, the elephant, the penguin, the dolphin
    """),
    "plan": lines("""
        visit my mother, go to the dentist, clean the kitchen, write a letter, bake a cake,
        go swimming, buy new shoes, call my sister, meet a friend, paint the fence, read a book,
        fix my bike, go for a long walk, cook a big dinner, see a film, go to the museum,
        finish my report, wash the car, plant tomatoes, take the train to the coast, sleep in,
        pack my bags, visit my grandmother, learn for my exam, go dancing, tidy the cellar
    """),
    "film": lines("""
        The Long Winter, Moon over Lima, The Last Waltz, Two Brothers, The Lighthouse Keeper, Paper Boats, Gold Rush,
        The Big Race, Night at the Harbour, Snow Dogs, A Summer Song
    """),
    "flower": lines("""
        the rose, tulips, roses, daisies, sunflowers, the lily, lavender, orchids, poppies, violets, snowdrops
    """),
    "fruit": lines("""
        apples, bananas, cherries, pears, plums, grapes, mango, peaches, strawberries, melon, oranges, kiwi
    """),
    "game": lines("""
        chess, hide and seek, poker, dominoes, ludo, draughts, monopoly, cards, scrabble, hangman, memory
    """),
    "allergen": lines("""
        nuts, milk, eggs, pollen, cats, dust, fish, wheat, bee stings, strawberries, soy, apples,
        dog hair, penicillin, grass, peanuts
    """),
    "thing": lines("""
        keys, phone, wallet, glasses, passport, umbrella, bag, book, charger, gloves, notebook,
        hat, ticket, headphones, bike, ring, camera, coat
    """),
    "spot": lines("""
        in the drawer, on the table, under the bed, in the kitchen, behind the door, on the shelf,
        in my coat, in the car, next to the lamp, in the blue box, under the mat, in the cellar,
        on the chair, in the bathroom, in the red bag, at the office, by the window
    """),
    "age": [str(n) for n in range(6, 99) if n % 7 != 3],
    "date": [
        f"{day} {month}"
        for month in words("January February March April May June July August September October November December")
        for day in range(1, 29)
        if f"{day} {month}" not in _HELDOUT_DATES
    ],
}

HELDOUT = {
    "person": words("""
        Nadia Tobias Esra Lorenzo Miriam Wendel Ophelia Casimir Dagny Ruben Salome Thaddeus
        Annika Bogdan Imogen Fabian Henrike Joachim Kirsten Leopold Marisol Niamh Oswald Perpetua
        Rosalind Stellan Tamsin Valentin Winifred Zelda Gideon Hedwig Ludmila Anselm Brigid
        Cosima Dominic Estelle Florian Gwendolyn
    """),
    "pet_name": words("""
        Biscuit Nugget Waldo Pickle Schnurri Mozart Tofu Captain Bandit Cleo Hobbes Juniper Muffin
        Noodle Pumpkin Rascal Truffle Ziro Domino Wotan
    """),
    "place": lines("""
        Brno, Tromso, Ghent, Bilbao, Leipzig, Galway, Utrecht, Nairobi, Kyoto, Valparaiso, Split,
        Gdansk, Salzburg, Tampere, Montreal, Santa Fe, Las Palmas, Wellington, Marburg, Odense
    """),
    "job": lines("""
        a welder, a midwife, a beekeeper, a florist, a translator, a chemist, a tailor, a locksmith,
        an optician, an astronomer, a violin maker, a train conductor, a zoo keeper, a potter
    """),
    "liking": lines("""
        origami, sailing, juggling, pottery, astronomy, birdwatching, surfing, archery,
        collecting stamps, model ships, rock climbing, playing the cello, mushroom picking, karaoke
    """),
    "dislike": lines("""
        mosquitoes, lifts, celery, alarm clocks, sirens, mayonnaise, tax forms, thunder, liver,
        elevators
    """),
    "food": lines("ramen, gnocchi, paella, goulash, risotto, plum cake, moussaka, cherry tart"),
    "colour": lines("turquoise, crimson, lilac, beige, emerald, dark violet"),
    "music": lines("bossa nova, swing, baroque music, ska, flamenco"),
    "book": lines("The Glass Harbour, Seven Lanterns, The Copper Bird"),
    "drink": lines("ginger ale, espresso, elderflower juice, buttermilk"),
    "sport": lines("badminton, fencing, curling, handball"),
    "season": lines("late autumn, deep winter"),
    "animal": lines("the otter, the hedgehog, the lynx"),
    "plan": lines("""
        repair the roof, visit the zoo, sell my piano, pick cherries, return the ladder,
        meet my lawyer, carve a pumpkin, paint the bathroom
    """),
    "allergen": lines("shellfish, mustard, latex, walnuts, sesame"),
    "thing": lines("scissors, torch, diary, violin, toolbox"),
    "spot": lines("""
        behind the sofa, in the garage, under the stairs, on the balcony, in the green suitcase
    """),
    "age": [str(n) for n in range(6, 99) if n % 7 == 3],
    "date": _HELDOUT_DATES,
}

# Classes of which the words already in training are enough: the held-out half tests them with
# unseen values, yet an invented season would teach nothing.
_INVENTED_SHARE = {
    "person": 0.6, "pet_name": 0.6, "place": 0.6, "job": 0.5, "liking": 0.4, "dislike": 0.4,
    "food": 0.5, "colour": 0.5, "music": 0.5, "book": 0.4, "drink": 0.5, "sport": 0.5,
    "season": 0.4, "animal": 0.5, "plan": 0.5, "allergen": 0.5, "thing": 0.4, "spot": 0.5,
    "film": 0.5, "flower": 0.5, "fruit": 0.5, "game": 0.5, "age": 0.0, "date": 0.0,
}  # fmt: skip

_ONSETS = words("b c d f g h j k l m n p r s t v w z b d f g h k l m n p r s t br ch cl dr fl gr pr qu sh st tr")
_VOWELS = words("a e i o u a e i o u a e i o u ai ea ee ia ie oo ou y au")
_CODAS = ["", "", ""] + words("n r s l m t d k n r s l x nd st ng ck ll p rn")
_ADJECTIVES = words("old new small big warm cold red blue green quiet loud fresh sweet dark wild soft slow long")
_VERBS = words("paint visit fix clean sell buy call find carry build cook move bring wash")
_PREPOSITIONS = ["in the", "on the", "under the", "behind the", "near the", "next to the", "in my"]

_LOWERED_HELDOUT = {value.lower() for pool in HELDOUT.values() for value in pool}
_LOWERED_HELDOUT |= {value.split(" ", 1)[-1] for value in _LOWERED_HELDOUT}


def invented_word(rng: Random, syllables: int | None = None) -> str:
    """A pronounceable word that is in no held-out pool."""
    while True:
        count = syllables or rng.choice([1, 2, 2, 2, 2, 3])
        word = "" if rng.random() > 0.2 else rng.choice("aeiou")
        for index in range(count):
            coda = rng.choice(_CODAS) if index + 1 == count or rng.random() < 0.3 else ""
            word += rng.choice(_ONSETS) + rng.choice(_VOWELS) + coda
        if word not in _LOWERED_HELDOUT:
            return word


def invented(kind: str, rng: Random) -> str:
    word = invented_word(rng)
    if kind in ("person", "pet_name"):
        return word.capitalize()
    if kind == "place":
        suffix = rng.choice(["", "", "", "burg", "ville", "stad", "ford", " Bay", " City", " Hill"])
        return word.capitalize() + suffix
    if kind == "job":
        title = word + rng.choice(["er", "ist", "or", "", "man", " maker", " keeper", " driver"])
        return ("an " if title[0] in "aeiou" else "a ") + title
    if kind == "liking" or kind == "dislike":
        return (
            rng.choice(["", "", "", f"{rng.choice(_ADJECTIVES)} "]) + word + rng.choice(["ing", "s", "", "ery", "ball"])
        )
    if kind in ("book", "film"):
        return f"The {word.capitalize()}" + rng.choice(["", " House", " Road", " Night"])
    if kind == "animal":
        return f"the {word}"
    if kind == "plan":
        return f"{rng.choice(_VERBS)} {rng.choice(['the', 'my', 'a'])} {word}"
    if kind == "spot":
        return f"{rng.choice(_PREPOSITIONS)} {rng.choice(_ADJECTIVES + [''])} {word}".replace("  ", " ")
    if kind == "season":
        return f"{rng.choice(_ADJECTIVES)} {rng.choice(TRAIN['season'])}"
    return rng.choice(["", "", f"{rng.choice(_ADJECTIVES)} "]) + word


def training_value(kind: str, rng: Random) -> str:
    """A value for training: a real word of the training half or an invented one."""
    while True:
        if rng.random() < _INVENTED_SHARE[kind]:
            value = invented(kind, rng)
        else:
            value = rng.choice(TRAIN[kind])
        if value.lower() not in _LOWERED_HELDOUT:
            return value


def assert_disjoint() -> None:
    """The two halves share no value, in any class and any case."""
    trained = {value.lower() for pool in TRAIN.values() for value in pool}
    heldout = {value.lower() for pool in HELDOUT.values() for value in pool}
    shared = trained & heldout
    assert not shared, f"values in both halves: {sorted(shared)}"
