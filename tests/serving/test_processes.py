"""`mm serve` as a process: it starts, answers, and ends."""

from tests.serving.conftest import Server, World


def test_both_datasets_are_answered(serving, trained_pets: World, trained_prices: World) -> None:
    server: Server = serving()
    told = server.predict("pets_like", trained_pets.record()).json()
    (answer,) = told["predictions"]
    assert answer["prediction"] in ("yes", "no")
    assert 0.5 <= answer["confidence"] <= 1
    told = server.predict("prices", trained_prices.record()).json()
    (answer,) = told["predictions"]
    assert answer["lower"] < float(answer["prediction"]) < answer["upper"]
    assert server.process.poll() is None
