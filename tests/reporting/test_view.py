"""The viewer without a browser: who may read it, what it lists and which pages it gives."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from benchmarks.made_run import Size, make_run
from dasd_bench.errors import UsageError
from dasd_bench.reporting.view.catalog import Catalog, Listed
from dasd_bench.reporting.view.pages import Pages, progress_share, progress_text
from dasd_bench.reporting.view.server import ViewServer
from dasd_bench.results.progress import Progress, ProgressFile
from dasd_bench.store.locks import FileLock

SMALL = Size(examples=4, tokens=8, items=30, seeds=(0, 1), steps=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "alpha", SMALL)


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    shutil.copytree(made, folder / "alpha")
    return folder


@pytest.fixture
def server(runs: Path) -> Iterator[ViewServer]:
    with ViewServer(Pages(Catalog([runs]))) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


class Got:
    """One answer, and the means to ask."""

    def __init__(
        self, server: ViewServer, path: str, method: str = "GET", host: str = "", cookie: str | None = None
    ) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        given = f"{server.cookie}={server.token}" if cookie is None else cookie
        headers = {"Cookie": given, "Host": host or f"127.0.0.1:{server.server_port}"}
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        self.status, self.headers = response.status, response.headers
        self.text = response.read().decode()
        connection.close()


def key_of(runs: Path, name: str = "alpha") -> str:
    return next(run.key for run in Catalog([runs]).runs() if run.name == name)


def test_the_token_is_asked_for_and_moves_from_the_address_into_a_cookie(server: ViewServer) -> None:
    for cookie in ("", "other=1", f"{server.cookie}=wrong", f"{server.cookie}=é", '"'):
        answer = Got(server, "/", cookie=cookie)
        assert answer.status == 403
        assert "alpha" not in answer.text
    assert Got(server, "/?token=wrong", cookie="").status == 403
    entered = Got(server, urlsplit(server.address).path + "?" + urlsplit(server.address).query, cookie="")
    assert entered.status == 303
    assert entered.headers["Location"] == "/"
    cookie = entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite" in cookie
    again = Got(server, "/", cookie=cookie.split(";")[0])
    assert again.status == 200
    assert "alpha" in again.text
    assert server.token not in again.text


def test_a_page_keeps_its_query_and_no_other_host_is_named(server: ViewServer) -> None:
    assert Got(server, f"/compare?a=1&token={server.token}&b=2", cookie="").headers["Location"] == "/compare?a=1&b=2"
    assert Got(server, f"//evil.example/?token={server.token}", cookie="").headers["Location"] == "/evil.example/"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "127.0.0.1:x", "[::1"])
def test_only_names_of_this_machine_are_answered(server: ViewServer, host: str) -> None:
    assert Got(server, "/", host=host).status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8765", "127.0.0.1:9"])
def test_a_tunnel_may_have_another_port(server: ViewServer, host: str) -> None:
    assert Got(server, "/", host=host).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"])
def test_nothing_but_get_is_answered(server: ViewServer, method: str) -> None:
    answer = Got(server, "/", method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET"


def test_no_address_leads_to_a_file(server: ViewServer, runs: Path) -> None:
    (runs.parent / "secret").write_text("not for others", encoding="utf-8")
    for path in ("/../secret", "/run/../../secret", "/run/..%2f..%2fsecret", "/run/alpha", "/static/view.js", "/run"):
        answer = Got(server, path)
        assert answer.status == 404, path
        assert "not for others" not in answer.text
    for name in ("manifest.json", "results.json", "..", "report/x"):
        assert Got(server, f"/run/{key_of(runs)}/{name}").status == 404


def test_pages_forbid_what_they_do_not_need(server: ViewServer) -> None:
    headers = Got(server, "/").headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)
    assert nonce is not None
    assert nonce[1] not in Got(server, "/").headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_taken_port_is_named(server: ViewServer, runs: Path) -> None:
    with pytest.raises(UsageError, match=f"--port {server.server_port} cannot be used"):
        ViewServer(Pages(Catalog([runs])), server.server_port)


def test_every_page_of_a_run(server: ViewServer, runs: Path) -> None:
    key = key_of(runs)
    run = Got(server, f"/run/{key}")
    assert run.status == 200
    assert '<th scope="row">dasd+tau=0.9</th>' in run.text
    report = Got(server, f"/run/{key}/report").text
    assert 'id="token-viewer"' in report
    assert '<a href="/" id="home">' in report
    answers = Got(server, f"/run/{key}/answers?task=math&page=2").text
    assert "page 2 of 2" in answers
    assert "math/test/29" in answers
    assert "math/test/3" not in answers
    compared = Got(server, f"/compare?a={key}&b={key}&row_a=sft&row_b=base").text
    assert "alpha:sft vs alpha:base" in compared
    same = Got(server, f"/compare?a={key}&b={key}&row_a=sft&row_b=sft").text
    assert "are the same row" in same
    assert Got(server, f"/compare?a={key}&b=none").status == 404


def test_answers_are_counted_as_the_files_have_them(server: ViewServer, runs: Path) -> None:
    file = runs / "alpha" / "arms" / "sft" / "seed1" / "eval" / "math" / "samples.jsonl"
    wrong = sum(json.loads(line)["reason"] == "wrong" for line in file.read_text(encoding="utf-8").splitlines())
    assert 0 < wrong < 30
    query = f"task=math&row={quote('sft, seed 1')}&reason=wrong"
    assert f"{wrong} of 30 items" in Got(server, f"/run/{key_of(runs)}/answers?{query}").text
    one = Got(server, f"/run/{key_of(runs)}/answers?task=math&search=math/test/7&show=base").text
    assert "1 of 30 items" in one
    assert one.count("<h4>") == 1
    for odd in ("page=-1", "page=999999999999", "page=x", "task=none&row=none&reason=none&show=none"):
        assert Got(server, f"/run/{key_of(runs)}/answers?{odd}").status == 200


def test_model_output_is_text(made: Path, tmp_path: Path) -> None:
    odd = tmp_path / "runs" / "<img src=x onerror=alert(1)>"
    shutil.copytree(made, odd)
    pages = Pages(Catalog([tmp_path / "runs"]))
    page = pages.answer("/", [])
    assert page is not None
    assert "<img" not in page.text
    key = key_of(tmp_path / "runs", odd.name)
    for path in (f"/run/{key}", f"/run/{key}/answers", "/compare"):
        page = pages.answer(path, [("a", key), ("b", key), ("row_a", "<img>"), ("search", "<img>")])
        assert page is not None
        assert "<img" not in page.text


def only(runs: Path) -> Listed:
    (found,) = Catalog([runs]).runs()
    return found


def test_the_list_reads_no_results(runs: Path) -> None:
    """What makes a folder of 200 runs quick: results have every item's outcome, the manifest what the list shows."""
    (runs / "alpha" / "results.json").write_text("damaged", encoding="utf-8")
    listed = only(runs)
    assert (listed.status, listed.model, listed.problem) == ("finished", "smollm2-135m", "")
    assert listed.tasks == ["gsm8k", "math", "arc_challenge"]


def test_a_summary_is_kept_until_its_files_change(runs: Path) -> None:
    catalog = Catalog([runs])
    path = runs / "alpha" / "manifest.json"
    before = path.stat()
    assert catalog.runs()[0].model == "smollm2-135m"
    path.write_text(path.read_text(encoding="utf-8").replace("smollm2-135m", "smollm2-999m"), encoding="utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert catalog.runs()[0].model == "smollm2-135m"
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    assert catalog.runs()[0].model == "smollm2-999m"


def test_statuses(runs: Path) -> None:
    alpha = runs / "alpha"
    (alpha / "manifest.json").unlink()
    assert only(runs).status == "finished"  # complete, as load_run says
    (alpha / "results.json").unlink()
    (alpha / "spec.yaml").write_text("model: m\nmethods: [sft, dasd]\ntasks: [gsm8k]\n", encoding="utf-8")
    listed = only(runs)
    assert (listed.status, listed.model, listed.methods, listed.tasks) == (
        "unfinished",
        "m",
        ["sft", "dasd"],
        ["gsm8k"],
    )
    (alpha / "manifest.json").write_text('{"status": "cancelled", "model": {"name": "m"}}', encoding="utf-8")
    assert (only(runs).status, only(runs).methods) == ("cancelled", ["sft", "dasd"])
    for damaged in ("{", "[]", '{"arms": 3}'):
        (alpha / "manifest.json").write_text(damaged, encoding="utf-8")
        assert only(runs).status == "unreadable"
        assert "manifest.json" in only(runs).problem
    (alpha / "manifest.json").unlink()
    for odd in ("- a", "model: [", "model: 3\nmethods: 4", "a: &a [*a]"):
        (alpha / "spec.yaml").write_text(odd, encoding="utf-8")
        assert only(runs).status == "unfinished"


def test_a_run_at_work_shows_its_progress_first(runs: Path, made: Path) -> None:
    shutil.copytree(made, runs / "beta")
    os.utime(runs / "beta" / "manifest.json", (10**9, 10**9))
    os.utime(runs / "beta" / "results.json", (10**9, 10**9))
    with FileLock(runs / "beta" / ".lock"):
        file = ProgressFile(runs / "beta" / ".progress.json")
        file.stage("train", "dasd seed 0", 3, 10, 75.0)
        first, second = Catalog([runs]).runs()
        assert (first.name, first.status) == ("beta", "running")
        assert progress_text(first.progress) == "stage 3 of 10, train, dasd seed 0, about 1m15s left"
        assert (second.name, second.status) == ("alpha", "finished")
        answer = Pages(Catalog([runs])).answer("/runs.json", [])
        assert answer is not None
        told = json.loads(answer.text)[0]
        assert (told["status"], told["share"]) == ("running", 0.2)
    # A killed run leaves its progress, and no living owner of its lock.
    assert {run.status for run in Catalog([runs]).runs()} == {"finished"}


def test_shares_of_progress() -> None:
    assert progress_share(None) == 0
    assert progress_share(Progress("train")) == 0
    assert progress_share(Progress("x", number=2, of=4, done=1, total=2)) == 0.375
    assert progress_share(Progress("x", number=4, of=4, done=3, total=2)) == 1
    assert progress_text(None) == "starting"


def test_sweeps_single_runs_and_folders(runs: Path, made: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweeps" / "lr"
    for place in ("points/lr=1", "points/lr=2", "final"):
        shutil.copytree(made, sweep / place)
    names = {"lr=1", "lr=2", "final"}
    assert {run.name for run in Catalog([sweep.parent]).runs()} == names
    assert {run.name for run in Catalog([sweep]).runs()} == names
    assert [run.name for run in Catalog([runs / "alpha"]).runs()] == ["alpha"]
    everything = Catalog([runs, sweep.parent, tmp_path / "not there"]).runs()
    assert {run.name for run in everything} == {"alpha", *names}
    assert len({run.key for run in everything}) == 4


def test_links_are_listed_once_and_not_where_they_lead_out(runs: Path, made: Path) -> None:
    (runs / "outside").symlink_to(made)
    (runs / "inside").symlink_to(runs / "alpha")
    assert {run.name for run in Catalog([runs]).runs()} == {"alpha"}
