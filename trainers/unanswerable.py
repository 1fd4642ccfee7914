"""Questions that no picture from above answers, or that the embedded checkpoint cannot: it should say so.

Of things that it has never been told of, a model that knows two answers, yes and no, guesses one of them.
"""

from __future__ import annotations

import numpy as np

UNKNOWN_ANSWER = "I cannot tell."
UNKNOWN = (
    "What is the weather like?", "Who lives here?", "Which country is this?", "What is your name?", "Hello.",
    "Who took this picture?", "How old are the buildings?", "What time is it?", "What is the capital of France?",
    "How much does a house cost here?", "Which city is this?", "Who owns this land?", "What is the population?",
    "Tell me a joke.", "What will happen next?", "Why?", "How high is the building?", "What is two plus two?",
    "Is it going to rain?", "What is the name of this place?", "How far is it to the sea?", "Good morning.",
    "Who are you?", "Can you help me?", "What is the street called?", "Which language do people speak here?",
    "What does it smell like?", "How loud is it?", "Are the people happy?", "Which satellite took this?",
    "What is your favourite colour?", "Thank you.", "Who won the match?", "Is the shop open?", "Is it Monday?",
    "What is the postal code?", "How fast do the cars drive?", "What is inside the building?", "How deep is it?",
    "When was this place founded?", "Do you like it?", "Is the owner at home?", "What did it cost?",
    "How warm is it?", "Is it windy?", "Will it snow?", "What day is it?", "Which month is this?", "Good evening.",
    "How is life here?", "Where do you come from?", "What are you?", "Who is the mayor?", "Who drew the map?",
    "When was this built?", "Where on Earth is this?", "Which continent is this?", "Is this Germany?",
    "How many children live here?", "How many people work here?", "How rich are the people?", "Is it noisy here?",
    "What is the rent?", "Which company owns the building?", "Do people like to live here?", "What is her name?",
    "How deep is the water?", "Is the water clean?", "Is the water cold?", "Can I swim here?", "Is it safe here?",
    "How old are the trees?", "How tall are the trees?", "Which crop is this?", "Who works on the field?",
    "Where does the road lead?", "How wide is the road?", "What colour is the roof?", "What colour are the cars?",
    "How large is the area in hectares?", "How big is the house?", "What is the scale of this picture?",
    "Which way is north?", "Is this a good place to live?", "Is this legal?", "Why was it built?", "Are you sure?",
    "What is the resolution?", "How many floors does the building have?", "Who is this?", "Where am I?",
)  # fmt: skip
UNKNOWN_HELD_OUT = (
    "What is the temperature?", "Who built this?", "In which country was this taken?", "How are you?",
    "What year is it?", "How many people live here?",
)  # fmt: skip
# What is not told of a change.
UNKNOWN_OF_CHANGE = (
    "Why did it change?", "How large is the change?", "How long did it take?", "Was it legal?", "What was the reason?",
    "How many square metres changed?", "How large is the area that changed?", "On which day did it change?",
    "Who ordered it?", "Will it change again?", "Who profits by it?", "How many people had to move?",
)  # fmt: skip
# Things of which the model is never told, one and several: neither yes nor no would be more than a guess. Some are in
# real pictures, which have no labels of them.
UNTOLD = (
    ("a bridge", "bridges"), ("a swimming pool", "swimming pools"), ("a pool", "pools"), ("a plane", "planes"),
    ("an airplane", "airplanes"), ("an airport", "airports"), ("a train", "trains"), ("a railway", "railways"),
    ("a church", "churches"), ("a school", "schools"), ("a dog", "dogs"), ("a cow", "cows"),
    ("a wind turbine", "wind turbines"), ("a mountain", "mountains"), ("a beach", "beaches"),
    ("an island", "islands"), ("a power line", "power lines"), ("a greenhouse", "greenhouses"),
    ("a stadium", "stadiums"), ("a dam", "dams"), ("a tunnel", "tunnels"), ("a cemetery", "cemeteries"),
    ("a container", "containers"), ("a hospital", "hospitals"), ("a hotel", "hotels"),
    ("a shop", "shops"), ("a tent", "tents"), ("a helicopter", "helicopters"), ("a horse", "horses"),
    ("a fence", "fences"), ("a wall", "walls"), ("a garden", "gardens"), ("a chimney", "chimneys"),
    ("a tower", "towers"), ("a volcano", "volcanoes"), ("a bus", "buses"), 
    ("a tennis court", "tennis courts"), ("a roundabout", "roundabouts"), ("a sheep", "sheep"),
    ("a bird", "birds"), ("a child", "children"), ("a desert", "deserts"), ("a golf course", "golf courses"),
    ("a runway", "runways"),
    ("a racetrack", "racetracks"), ("a playground", "playgrounds"), ("a windmill", "windmills"),
    ("a vineyard", "vineyards"), ("an orchard", "orchards"), ("a market", "markets"), ("a statue", "statues"),
    ("a palace", "palaces"), ("a cat", "cats"), ("a camel", "camels"), ("a cliff", "cliffs"),
    ("a waterfall", "waterfalls"), ("a canyon", "canyons"), ("a pipeline", "pipelines"), ("a quarry", "quarries"),
    ("a prison", "prisons"), ("a library", "libraries"), ("a zoo", "zoos"),
    ("a windsock", "windsocks"), ("a cable car", "cable cars"), ("a monument", "monuments"), ("a sauna", "saunas"),
    ("a rocket", "rockets"), ("a vulture", "vultures"), ("a temple", "temples"), ("a theatre", "theatres"),
    ("a motorway", "motorways"), ("a pier", "piers"), ("a mosque", "mosques"), ("a petrol station", "petrol stations"),
)  # fmt: skip
UNTOLD_HELD_OUT = (
    ("a harbour", "harbours"), ("a lighthouse", "lighthouses"), ("a castle", "castles"), ("a bicycle", "bicycles"),
    ("a fountain", "fountains"), ("an elephant", "elephants"), ("a museum", "museums"), ("a glacier", "glaciers"),
)  # fmt: skip
ABOUT_THINGS = (
    "Is there {a} in the image?", "Is {a} present in the image?", "Does the image show {a}?", "Is there {a}?",
    "Can you see {a}?", "Are there any {some}?", "Can you see any {some}?", "Are there {some}?", "Any {some}?",
    "Do you see {a} in this picture?", "Is {a} visible?", "Does this picture show any {some}?",
    "How many {some} are there?", "How many {some} can you see?", "Count the {some}.", "Where is the {thing}?",
    "Where are the {some}?",
)  # fmt: skip


def unanswerable_question(rng: np.random.Generator, of_change: bool = False) -> str:
    """One that is trained on: half are of things that it is never told of, or of the change as often."""
    if of_change and rng.random() < 0.5:
        return UNKNOWN_OF_CHANGE[int(rng.integers(len(UNKNOWN_OF_CHANGE)))]
    if rng.random() < 0.5:
        return UNKNOWN[int(rng.integers(len(UNKNOWN)))]
    return about_thing(rng, UNTOLD[int(rng.integers(len(UNTOLD)))])


def about_thing(rng: np.random.Generator, names: tuple[str, str]) -> str:
    """Whether, how many of, or where the thing is."""
    a, some = names
    words = ABOUT_THINGS[int(rng.integers(len(ABOUT_THINGS)))]
    return words.format(a=a, some=some, thing=a.split(" ", 1)[1])
