"""A module of AICO: publishes the weather, answers questions about it, asks the model service, and
hears when an answer is done. Run it as docs/modules.md says: weather.py weather.json
"""

import sys

from aico.v1 import models_pb2
from aico_bus import Bus
from weather_pb2 import Question, Weather

WEATHER = {"Lisbon": 21.5, "Bergen": 9.0}

bus = Bus(sys.argv[1], *sys.argv[2:])
heard = bus.subscribe("conversation.*.event.*")
asked = bus.serve("weather.today")
counted = None

while True:
    for receiver, message in bus.receive(seconds=1):
        if message.correlation and message.correlation == counted:
            answer = models_pb2.TokenCount.FromString(message.payload)
            print(f"the model reads that as {answer.tokens} tokens", flush=True)
        elif receiver == heard and message.topic.endswith(".answer-done"):
            print("an answer is done", flush=True)
            turn = models_pb2.Turn(
                role=models_pb2.Turn.ROLE_USER, text="How is the weather?"
            )
            counted = bus.request("models.count", models_pb2.CountTokens(turns=[turn]))
        elif receiver == asked:
            place = Question.FromString(message.payload).place
            bus.reply(message, Weather(place=place, celsius=WEATHER.get(place, 15.0)))
    for place, celsius in WEATHER.items():
        bus.publish("weather.now", Weather(place=place, celsius=celsius))
