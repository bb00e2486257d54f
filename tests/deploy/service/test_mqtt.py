"""MQTT against a real broker (Debian's mosquitto): Frigate's convention, discovery, TLS, a broker away."""

from __future__ import annotations

import json
import subprocess

import pytest

from deploy.service import mqtt
from deploy.service.service import Service
from deploy.service.settings import MqttSettings, ServiceSettings
from pat.base.errors import UserError

from .brokers import Broker, Listener, needs_broker
from .conftest import running, unit

SITE = "pat/harbour"


@pytest.fixture
def broker(tmp_path, monkeypatch):
    monkeypatch.setattr(mqtt, "RETRY", (0.05, 0.3))
    found = Broker(tmp_path, "allow_anonymous true")
    yield found
    found.stop()


def chosen(broker, **more):
    return ServiceSettings(mqtt=MqttSettings(broker=f"127.0.0.1:{broker.port}", topic=SITE, **more))


@needs_broker
def test_events_as_frigate_tells_them(colour_bundle, tmp_path, broker, street):
    listener = Listener(broker)
    with running(colour_bundle, tmp_path, service=chosen(broker)) as service:
        service.met("anna", "gate", unit(1), track=4, new=True)
        first, last = (json.loads(each) for each in listener.until(f"{SITE}/events", 2))
        assert [each["type"] for each in (first, last)] == ["new", "end"]
        assert last["before"] == first["after"]
        after = last["after"]
        assert (after["id"], after["camera"], after["label"], after["sub_label"]) == (
            "gate-4",
            "gate",
            "person",
            "anna",
        )
        assert after["end_time"] == after["frame_time"]
        assert after["pat"]["schema"] == 1
        assert listener.until(f"{SITE}/available")[-1] == "online"
        sensor = json.loads(listener.until("homeassistant/sensor/pat_pat_harbour_last_person/config")[0])
        assert sensor["state_topic"] == f"{SITE}/events"
        assert sensor["availability_topic"] == f"{SITE}/available"
        service.api("DELETE", f"/people/{service.get('/people')['items'][0]['key']}")
        assert "anna" not in listener.until(f"{SITE}/forgotten")[0]
    assert listener.until(f"{SITE}/available", 2)[-1] == "offline"
    listener.close()


@needs_broker
@pytest.mark.slow  # who listens anew has to be there before the service is, which a busy machine does not grant
def test_nothing_is_lost_while_the_broker_is_away(colour_bundle, tmp_path, broker, monkeypatch):
    monkeypatch.setattr(mqtt, "RETRY", (3.0, 3.0))
    with running(colour_bundle, tmp_path, service=chosen(broker)) as service:
        listener = Listener(broker)
        service.met("one", "gate", unit(1), track=1)
        listener.until(f"{SITE}/events", 1)
        listener.close()
        broker.stop()
        for track in range(2, 6):
            service.met(f"p{track}", "gate", unit(track), track=track)
        service.settled(lambda: len(service.get("/events")["items"]) == 5)
        broker.start()
        listener = Listener(broker)
        told = [json.loads(each)["after"]["pat"]["track"] for each in listener.until(f"{SITE}/events", 4)]
        assert told[-4:] == [2, 3, 4, 5]
        listener.close()


@needs_broker
def test_tls_and_a_password(colour_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(mqtt, "RETRY", (0.05, 0.3))
    certificate, key, passwords = tmp_path / "c.pem", tmp_path / "k.pem", tmp_path / "passwords"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(
        ["mosquitto_passwd", "-c", "-b", passwords, "site", "pass word"], check=True, capture_output=True
    )
    for each in (certificate, key, passwords):
        each.chmod(0o644)
    broker = Broker(tmp_path, f"certfile {certificate}", f"keyfile {key}", "allow_anonymous false",
                    f"password_file {passwords}")  # fmt: skip
    settings = MqttSettings(broker=f"mqtts://127.0.0.1:{broker.port}", user="site", ca=certificate)
    try:
        monkeypatch.setenv(mqtt.PASSWORD, "pass word")
        with running(colour_bundle, tmp_path, service=ServiceSettings(mqtt=settings)) as service:
            service.met("anna", "gate", unit(1), track=1)
            journal = service.service._journal
            service.settled(lambda: journal.newest and journal.cursor(mqtt.CONSUMER) == journal.newest)
    finally:
        broker.stop()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (MqttSettings(broker="http://host"), "no HOST"),
        (MqttSettings(broker="host:port"), "no HOST"),
        (MqttSettings(broker="mqtt://me:secret@host"), mqtt.PASSWORD),
        (MqttSettings(broker="host", topic="a/#"), "no topic"),
        (MqttSettings(broker="mqtts://host", ca="/no/such/file"), "cannot be used"),
    ],
)
def test_settings_are_checked(settings, said):
    with pytest.raises(UserError, match=said) as refused:  # before anything runs
        Service(ServiceSettings(mqtt=settings), "127.0.0.1", 0)
    assert "secret" not in str(refused.value)
