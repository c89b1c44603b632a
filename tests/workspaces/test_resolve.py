from __future__ import annotations

import json
from pathlib import Path

import pytest

from amlflow.config import Config, Profile
from amlflow.errors import NotFound, UsageError
from amlflow.workspaces import resolve
from amlflow.workspaces.resolve import AzureSpec, LocalSpec, ServerSpec

ARM = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
JOB = {"AZUREML_ARM_SUBSCRIPTION": "s1", "AZUREML_ARM_RESOURCEGROUP": "g1", "AZUREML_ARM_WORKSPACE_NAME": "w1"}


def az_defaults(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config").write_text("[defaults]\ngroup = g4\nworkspace = w4\n")
    profile = {"subscriptions": [{"id": "s0", "isDefault": False}, {"id": "s4", "isDefault": True}]}
    # az writes this file with a byte order mark.
    (folder / "azureProfile.json").write_text(json.dumps(profile), encoding="utf-8-sig")


def sdk_config(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"subscription_id": "s3", "resource_group": "g3", "workspace_name": "w3"}
    (folder / "config.json").write_text(json.dumps(content))


def test_each_source_wins_over_all_below_it(work: Path, clean_env: dict[str, str]) -> None:
    az_defaults(Path(clean_env["AZURE_CONFIG_DIR"]))
    sdk_config(work / ".azureml")
    config = Config(path=work / "amlflow.yaml", workspace="local:here")
    env = {**JOB, "AMLFLOW_WORKSPACE": "a/b/c", "AZURE_CONFIG_DIR": clean_env["AZURE_CONFIG_DIR"]}

    def won(option: str = "", config: Config = config) -> tuple[object, str]:
        found = resolve.resolve(option, config, env)
        return found.spec, found.source

    assert won("x/y/z") == (AzureSpec("x", "y", "z"), "-w on the command line")
    assert won() == (AzureSpec("a", "b", "c"), "the variable AMLFLOW_WORKSPACE")
    del env["AMLFLOW_WORKSPACE"]
    assert won()[0] == AzureSpec("s1", "g1", "w1")
    del env["AZUREML_ARM_SUBSCRIPTION"]
    assert won() == (LocalSpec("here", work / "here"), f"'workspace:' in {work / 'amlflow.yaml'}")
    assert won(config=Config()) == (AzureSpec("s3", "g3", "w3"), str(work / ".azureml" / "config.json"))
    (work / ".azureml" / "config.json").unlink()
    assert won(config=Config())[0] == AzureSpec("s4", "g4", "w4")
    env["AZURE_CONFIG_DIR"] = str(work / "none")
    assert won(config=Config()) == (resolve.local_spec("local"), "the default")


def test_a_config_json_of_another_program_is_passed_over(work: Path) -> None:
    (work / "config.json").write_text('{"theme": "dark"}')
    below = work / "below"
    sdk_config(work.parent)
    below.mkdir()
    assert resolve.resolve("", Config(), {}).spec == AzureSpec("s3", "g3", "w3")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"subscription_id": "s", "workspace_name": "w",', "not valid JSON"),
        ('{"subscription_id": "s", "workspace_name": "w"}', "'resource_group'"),
        (
            '{"subscription_id": "", "resource_group": 7, "workspace_name": "w"}',
            "'subscription_id' and 'resource_group'",
        ),
        ('["workspace_name"]', "'workspace_name'"),
    ],
)
def test_a_broken_config_json_of_the_sdk_never_leads_to_another_workspace(work: Path, text: str, said: str) -> None:
    (work / "config.json").write_text(text)
    with pytest.raises(UsageError, match=r"config\.json") as caught:
        resolve.resolve("", Config(), {})
    assert said in caught.value.message
    assert resolve.resolve("local", Config(), {}).spec == resolve.local_spec("local")


@pytest.mark.parametrize(
    ("asked", "spec"),
    [
        ("s/g/w", AzureSpec("s", "g", "w")),
        (ARM, AzureSpec("s", "g", "w")),
        (f"azureml://eastus.api.azureml.ms/mlflow/v1.0{ARM}", AzureSpec("s", "g", "w", "eastus.api.azureml.ms")),
        ("https://mlflow.example.org/", ServerSpec("https://mlflow.example.org")),
        ("prod", AzureSpec("s9", "g9", "w9")),
    ],
)
def test_what_a_user_may_type(asked: str, spec: object, work: Path) -> None:
    config = Config(profiles={"prod": Profile("prod", "s9/g9/w9")})
    assert resolve.parse(asked, config) == spec


def test_a_profiles_relative_folder_is_relative_to_its_file(work: Path) -> None:
    config = Config(path=work / "up" / "amlflow.yaml", profiles={"dev": Profile("dev", "local:./state")})
    assert resolve.parse("dev", config) == LocalSpec("state", work / "up" / "state")


def test_an_unknown_name_offers_the_nearest(work: Path) -> None:
    config = Config(profiles={"staging": Profile("staging", "local")})
    with pytest.raises(NotFound, match="Did you mean 'staging'"):
        resolve.parse("stagin", config)


@pytest.mark.parametrize("asked", ["local:", "/subscriptions/only", "azureml://host/nothing"])
def test_what_cannot_be_read_is_a_usage_error(asked: str, work: Path) -> None:
    with pytest.raises(UsageError):
        resolve.parse(asked, Config())


def test_a_profile_that_leads_to_itself_is_refused(work: Path) -> None:
    config = Config(profiles={"a": Profile("a", "b"), "b": Profile("b", "a")})
    with pytest.raises(UsageError, match="leads back to itself"):
        resolve.parse("a", config)


def test_an_azure_workspace_opens_without_asking_anything(work: Path) -> None:
    opened = resolve.open_workspace(resolve.resolve("s/g/w", Config(), {}))
    assert (opened.kind, opened.name, opened.reference) == ("azure", "w", "s/g/w")
