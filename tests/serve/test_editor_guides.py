"""docs/editors.md: each curl command is run against a server, each setting is read and what it names is asked."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import httpx
import yaml

from codechoir.serve.models import ServedModel

GUIDE = Path(__file__).parents[2] / "docs" / "editors.md"
ADDRESS = "http://127.0.0.1:8000"


def blocks(kind: str) -> list[str]:
    """The guide's fenced blocks of one kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.M | re.S)


COMMANDS = blocks("sh")


def run(command: str, url: str) -> str:
    """A command's output, asked of another address than the guide's. curl's errors fail it, as do HTTP's."""
    assert ADDRESS in command
    command = command.replace(ADDRESS, url).replace("curl ", "curl --fail-with-body --noproxy '*' ", 1)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_command_of_the_guide_is_answered(serving, filling_choir: ServedModel) -> None:
    url = serving([filling_choir]).url
    models, plain, streamed, suffix, infill, chat = (run(command, url) for command in COMMANDS)
    assert {one["id"] for one in json.loads(models)["data"]} >= {"choir", "choir/python"}
    assert all(one["x_infill"] and one["x_chat"] for one in json.loads(models)["data"])
    choice = json.loads(plain)["choices"][0]
    assert choice["text"] and choice["x_route"]["source"] == "prompt"
    events = streamed.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    last = json.loads(events[-2].removeprefix("data: "))["choices"][0]
    assert last["x_route"]["expert"] == "python" and last["x_route"]["source"] == "model"
    route = json.loads(suffix)["choices"][0]["x_route"]
    assert (route["expert"], route["source"]) == ("cpp", "path")
    assert json.loads(infill)["content"]
    assert json.loads(chat)["choices"][0]["message"]["role"] == "assistant"


def test_there_are_no_more_commands_than_are_checked() -> None:
    assert len(COMMANDS) == 6
    assert all(command.startswith("curl ") and command.count("curl ") == 1 for command in COMMANDS)


def test_the_settings_of_continue_name_what_is_served(serving, filling_choir: ServedModel) -> None:
    running = serving([filling_choir])
    [text] = blocks("yaml")
    config = yaml.safe_load(text)
    assert config["schema"] == "v1"
    roles = {role: model for model in config["models"] for role in model["roles"]}
    assert roles.keys() == {"autocomplete", "chat"}
    for model in roles.values():
        assert (model["provider"], model["apiBase"]) == ("openai", f"{ADDRESS}/v1")
    prompt = roles["autocomplete"]["promptTemplates"]["autocomplete"]
    prompt = prompt.replace("{{{prefix}}}", "def f(self):\n").replace("{{{suffix}}}", "\n")
    assert roles["autocomplete"]["useLegacyCompletionsEndpoint"]
    with running.http() as client:
        body = {"model": roles["autocomplete"]["model"], "prompt": prompt, "max_tokens": 3}
        assert client.post("/v1/completions", json=body).raise_for_status().json()["choices"][0]["x_route"]
        ids = filling_choir.infilling.encoder.encode(prompt)
        counted = client.post("/v1/completions", json=body).json()["usage"]["prompt_tokens"]
        assert counted < len(ids)  # the three sentinels are tokens, not text
        body = {"model": roles["chat"]["model"], "messages": [{"role": "user", "content": "x"}], "max_tokens": 3}
        assert client.post("/v1/chat/completions", json=body).status_code == 200


def test_the_other_editors_settings_name_the_servers_paths(serving, filling_choir: ServedModel) -> None:
    url = serving([filling_choir]).url
    [text] = blocks("json")
    settings = json.loads(text)
    assert settings.keys() == {"llama-vscode.endpoint", "llama-vscode.api_key"}
    [lua] = blocks("lua")
    endpoints = {f"{settings['llama-vscode.endpoint']}/infill", *re.findall(r'endpoint\w* = "([^"]+)"', lua)}
    assert endpoints == {f"{ADDRESS}/infill"}
    body = {"input_prefix": "a", "input_suffix": "b", "prompt": "", "n_predict": 2}
    for endpoint in endpoints:
        assert httpx.post(endpoint.replace(ADDRESS, url), json=body).status_code == 200
