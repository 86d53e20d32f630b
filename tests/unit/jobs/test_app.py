"""How the Celery application is set up, and who counts as gone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from jobs.app import make_app, queue_of, route
from jobs.owners import is_gone, new_token
from jobs.settings import Settings


def test_a_lost_worker_gives_its_message_back_and_nothing_is_fetched_ahead() -> None:
    conf = make_app(Settings()).conf
    assert conf.task_acks_late and conf.task_reject_on_worker_lost and conf.task_track_started
    assert conf.worker_prefetch_multiplier == 1 and conf.worker_disable_prefetch
    assert conf.accept_content == ["json"] and conf.result_accept_content == ["json"]
    assert conf.result_expires > 0


def test_redis_does_not_give_a_running_stage_to_a_second_worker() -> None:
    settings = Settings(stage_seconds=7200)
    conf = make_app(settings).conf
    assert conf.broker_transport_options["visibility_timeout"] > settings.stage_seconds


def test_training_goes_to_the_gpu_queue() -> None:
    assert queue_of("train-augmented") == "nesycd.gpu"
    assert route("nesycd.stage", ["r", "train-general", 1]) == {"queue": "nesycd.gpu"}
    assert route("nesycd.stage", [], {"stage": "evaluate"}) == {"queue": "nesycd.cpu"}


def test_a_submission_has_a_queue_without_stages_before_it() -> None:
    assert route("nesycd.run", [{}]) == {"queue": "nesycd.runs"}


def test_a_worker_that_only_takes_submissions_loads_nothing_heavy() -> None:
    program = "import sys, jobs.tasks; print([m for m in ('torch', 'transformers', 'numpy', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_application_starts_without_torch() -> None:
    code = "import sys, jobs.tasks, jobs.worker, services.runs.servicer; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_worker_that_is_to_have_a_gpu_and_has_none_ends_before_it_takes_a_stage() -> None:
    settings = {
        "NESYCD_JOBS_DEVICE": "cuda",
        "NESYCD_JOBS_REDIS_URL": "redis://127.0.0.1:1/0",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "celery", "-A", "jobs.app", "worker", "-P", "solo", "-Q", "nesycd.gpu"]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("cannot start: torch ") and "NESYCD_JOBS_DEVICE=cpu" in done.stderr


def test_only_a_dead_process_of_this_machine_is_gone() -> None:
    mine = new_token()
    assert not is_gone(mine)
    place, _, start, unique = mine.split("|")
    assert is_gone("|".join((place, str(2**22 + 5), start, unique)))
    assert is_gone("|".join((place, str(os.getpid()), "1", unique))), "the pid was given to another process"
    assert not is_gone("|".join(("elsewhere", str(2**22 + 5), start, unique)))
    assert not is_gone("") and not is_gone("x")


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("redis://:p@host:6379/0", "redis://:p@host:6379/0"),
        ("rediss://team:p@host:6380/3", "rediss://team:p@host:6380/3?ssl_cert_reqs=required"),
        ("rediss://host/0?health_check_interval=3", "rediss://host/0?health_check_interval=3&ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_cert_reqs=none", "rediss://host/0?ssl_cert_reqs=none"),
    ],
)
def test_the_certificate_of_a_redis_over_tls_is_checked_unless_it_is_said_otherwise(given: str, used: str) -> None:
    app = make_app(Settings(redis_url=given))
    assert app.conf.broker_url == app.conf.result_backend == used
