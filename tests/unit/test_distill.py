"""Distillation: what the losses are worth, what the controls break, and that a student's run is an
ordinary one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from circle import circle_events
from reelm import files, losses, models, runs, train
from reelm.cli import app
from reelm.data.split import joined, leave_last_two
from reelm.distill import DistillConfig, Student, Vectors, distill_run, taught
from reelm.errors import BadData, ConfigError
from reelm.models.ease import EASEConfig
from reelm.models.item_knn import ItemKNNConfig
from reelm.models.lightgcn import LightGCNConfig
from reelm.models.mf import MFConfig
from reelm.models.promptmm import PromptMMConfig
from reelm.runs import Run

TRAIN = train.TrainConfig(epochs=30, batch_size=24, learning_rate=0.02, patience=30)
TEACH = train.TrainConfig(epochs=40, batch_size=24, learning_rate=0.05, patience=40)
QUICK = train.TrainConfig(epochs=3, batch_size=8, checkpoint_s=0)
LISTS = DistillConfig(drawn=6, best=4, best_of=6)
numbers = st.lists(st.floats(-5, 5), min_size=4, max_size=4).map(lambda row: torch.tensor([row]))
temperatures = st.floats(0.5, 5)


@pytest.fixture
def split(two_tastes):
    return leave_last_two(two_tastes)


@pytest.fixture
def teacher(split, tmp_path):
    settings = PromptMMConfig(dim=16)
    return runs.load(train.train_run(split, "promptmm", settings, TRAIN, tmp_path))


def sections(config, model=None, training=QUICK):
    return {"model": model or MFConfig(dim=8), "train": training, "distill": config}


@given(numbers, st.floats(-5, 5), temperatures)
def test_a_student_that_scores_as_the_teacher_has_nothing_to_learn(scores, more, temperature):
    for loss in (losses.list_distillation, losses.decoupled_distillation):
        own = (scores + more).requires_grad_()
        value = loss(scores, own, temperature)
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-4)
        assert own.grad.abs().max() < 1e-4


@given(numbers, numbers, temperatures)
def test_a_divergence_is_zero_only_where_the_lists_agree(one, other, temperature):
    apart = ((one - one.mean()) - (other - other.mean())).abs().max()
    for loss in (losses.list_distillation, losses.decoupled_distillation):
        value = loss(one.double(), other.double(), temperature)
        assert value >= -1e-9
        assert (value > 0) or apart < 1e-3


def test_a_divergence_worked_out_by_hand():
    told, said = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
    nats = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    assert losses.list_distillation(told, said).item() == pytest.approx(nats, abs=1e-6)
    assert losses.list_distillation(2 * told, 2 * said, 2.0).item() == pytest.approx(4 * nats)


@given(numbers, numbers, temperatures)
def test_the_two_parts_add_up_to_the_whole(told, said, temperature):
    """Zhao et al. 2022, equation 5: KL = target + (1 - chance of the target) * others."""
    told, said = told.double(), said.double()
    others = 1 - (told / temperature).softmax(1)[0, 0].item()
    parts = losses.decoupled_distillation(told, said, temperature, 1.0, others)
    whole = losses.list_distillation(told, said, temperature)
    torch.testing.assert_close(parts, whole, atol=1e-8, rtol=1e-6)


def test_alignment_looks_at_directions_only():
    one = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert losses.alignment(one, 3 * one).item() == pytest.approx(0)
    assert losses.alignment(one, -one).item() == pytest.approx(4)
    assert losses.alignment(one, one.flip(0)).item() == pytest.approx(1)


@pytest.mark.parametrize("decoupled", [False, True])
def test_a_student_that_is_the_teacher_stays_as_it_is(split, decoupled):
    model = train.build("mf", MFConfig(dim=8), split.train, 0)
    copy = Vectors(*(side.detach().clone() for side in model.served()))
    student = Student(LISTS.model_copy(update={"decoupled": decoupled}), split.train, model, copy)
    terms = student.loss(next(student.batches(split.train, 24, torch.Generator())))
    terms["list"].backward()
    assert terms["list"].item() == pytest.approx(0, abs=1e-5)
    assert all(p.grad.abs().max() < 1e-5 for p in model.parameters())


def test_a_list_is_the_chosen_item_drawn_ones_and_the_teachers_best(split, teacher):
    student = taught(split.train, teacher, "mf", sections(LISTS))
    for batch in student.batches(split.train, 16, torch.Generator().manual_seed(0)):
        assert batch.candidates.shape == (len(batch.pairs.user), 1 + 6 + 4)
        assert torch.equal(batch.candidates[:, 0], batch.pairs.item)
        for user, row in zip(batch.pairs.user.tolist(), batch.candidates.tolist(), strict=True):
            assert set(row[7:]) <= set(student.best[user].tolist())


def test_the_teachers_best_are_unseen_by_the_user_and_in_its_order(split, teacher):
    student = taught(split.train, teacher, "mf", sections(LISTS.model_copy(update={"best_of": 3})))
    with torch.no_grad():
        scores = teacher.model.score(torch.arange(24), torch.zeros(24, 1, dtype=torch.long))
    scores[:, split.train.counts == 0] = -torch.inf
    for user in range(24):
        scores[user, split.train.history(user)] = -torch.inf
    assert torch.equal(student.best.long(), scores.topk(3, dim=1).indices)


@pytest.mark.parametrize(("name", "settings"), [
    ("mmssl", {"features": ("text", "text"), "heads": 2}),
    ("llmrec", {"profiles": ("profile",), "base": "mmssl"}),
])  # fmt: skip
def test_a_student_goes_its_own_way_through_every_step(split, teacher, name, settings):
    """Graphs that are built while training, a decoder: without them it would be another model."""
    chosen = models.find(name).Config(dim=8, **settings)
    student = taught(split.train, teacher, name, sections(LISTS, chosen))
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    train.train(student, split.train, QUICK)
    graphs = [part for name, part in student.named_buffers() if name.endswith("near")]
    assert graphs and all(part.any() for part in graphs)
    still = {n for n, p in student.named_parameters() if torch.equal(p, before[n])}
    assert not still


def test_a_teacher_by_softmax_says_the_chances_it_was_trained_to_have(split):
    settings = MFConfig(dim=8, objective="softmax", temperature=0.2)
    model = train.build("mf", settings, split.train, 0)
    with torch.no_grad():
        model.user.mul_(7.0)
        student = taught(split.train, Run.of("mf", model, split.train), "mf", sections(LISTS))
        told = student.teacher(torch.arange(24))
        cosines = (
            torch.nn.functional.normalize(model.user) @ torch.nn.functional.normalize(model.item).T
        )
    seen = torch.from_numpy(split.train.counts > 0)
    torch.testing.assert_close(told[:, seen], cosines[:, seen] / 0.2)


def test_every_weight_of_student_and_projectors_learns(split, teacher):
    config = LISTS.model_copy(update={"feature_loss": 0.5, "from_scratch_loss": 0.5})
    student = taught(split.train, teacher, "mf", sections(config))
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    train.train(student, split.train, QUICK)
    assert {name.partition(".")[0] for name in before} == {"model", "to_teacher"}
    assert all((p != before[name]).any() for name, p in student.named_parameters())


def test_the_random_teacher_has_the_spectrum_and_nothing_else(split, teacher):
    def scores(control):
        config = LISTS.model_copy(update={"teacher_control": control})
        return taught(split.train, teacher, "mf", sections(config)).teacher(torch.arange(24))

    real, random = scores("as_is"), scores("random")
    spectra = [torch.linalg.svdvals(table)[:12] for table in (real, random)]
    torch.testing.assert_close(*spectra, atol=1e-3, rtol=1e-3)
    assert torch.corrcoef(torch.stack([real.flatten(), random.flatten()]))[0, 1].abs() < 0.5


def test_the_shuffled_teacher_gives_every_seen_item_the_score_of_another(split, teacher):
    config = LISTS.model_copy(update={"teacher_control": "shuffled"})
    user, seen = torch.arange(24), split.train.counts > 0
    for run in (teacher, Run.of("ease", ease(split), split.train)):
        real = taught(split.train, run, "mf", sections(LISTS)).teacher(user)[:, seen]
        dealt = taught(split.train, run, "mf", sections(config)).teacher(user)[:, seen]
        torch.testing.assert_close(dealt.sort(1).values, real.sort(1).values)
        assert (dealt != real).any(0).sum() > seen.sum() / 2


def ease(split):
    return train.build("ease", EASEConfig(ridge=1.0), split.train, 0)


def learned(split, teacher, config, work, model=None, name="mf"):
    """How close the student's ranking of unseen items is to what follows in the circle."""
    folder = distill_run(split, teacher, name, model or MFConfig(dim=8), config, TEACH, work)
    report = train.evaluate(runs.load(folder), split.test, ("mixed",), (3,))
    return report["mixed/recall@3"]


def test_knowledge_is_more_than_what_the_controls_teach(split, teacher, tmp_path):
    real, *controls = (
        learned(split, teacher, LISTS.model_copy(update={"teacher_control": name}), tmp_path)
        for name in ("as_is", "random", "shuffled")
    )
    assert real > 0.8
    assert real > max(controls) + 0.2


def test_a_teacher_without_vectors_is_asked(split, tmp_path):
    model = train.build("item_knn", ItemKNNConfig(), split.train, 0)
    run = Run.of("item_knn", model, split.train)
    config = LISTS.model_copy(update={"temperature": 0.1})
    assert learned(split, run, config, tmp_path) > 0.8


def test_a_teacher_that_is_asked_sees_the_training_histories(split):
    model = ease(split)
    found = taught(split.train, Run.of("ease", model, split.train), "mf", sections(LISTS)).teacher
    user, candidates = torch.tensor([5, 2]), torch.tensor([[3, 1, 4], [12, 7, 3]])
    history = torch.tensor([split.train.history(row).tolist() for row in user.tolist()])
    expected = model.score(user, history).gather(1, candidates)
    torch.testing.assert_close(found.lists(user, candidates), expected)


def test_a_student_with_a_graph_is_taught_too(split, teacher, tmp_path):
    model = LightGCNConfig(dim=8, layers=1)
    assert learned(split, teacher, LISTS, tmp_path, model, "lightgcn") > 0.8


def test_a_saved_student_needs_no_teacher(split, teacher, tmp_path):
    config = LISTS.model_copy(update={"feature_loss": 0.1})
    asked = split, teacher, "mf", MFConfig(dim=8), config, QUICK, tmp_path
    folder = distill_run(*asked)
    for file in teacher.folder.iterdir():
        file.unlink()
    run = runs.load(folder)
    assert sorted(name for name, _ in run.model.named_parameters()) == ["item", "user"]
    assert run.recommend(["u1"], 3)["source"].unique().to_list() == ["model"]
    assert files.manifest(folder)["inputs"]["teacher"] == teacher.key
    assert distill_run(*asked) == folder


def test_the_key_knows_the_teacher_and_the_settings(split, teacher, tmp_path):
    def key(config=LISTS, run=teacher):
        return distill_run(split, run, "mf", MFConfig(dim=8), config, QUICK, tmp_path).name

    other = Run.of("ease", ease(split), split.train)
    names = {key(), key(LISTS.model_copy(update={"temperature": 2.0})), key(run=other)}
    assert len(names) == 3


def test_killed_and_resumed_it_ends_with_the_same_weights(split, teacher, tmp_path, monkeypatch):
    config = LISTS.model_copy(update={"feature_loss": 0.1, "from_scratch_loss": 0.1})
    asked = split, teacher, "mf", MFConfig(dim=8), config, QUICK
    whole = distill_run(*asked, tmp_path / "whole")
    steps, real = [], Student.loss

    def dying(self, batch):
        steps.append(1)
        if len(steps) == 14:
            raise KeyboardInterrupt
        return real(self, batch)

    monkeypatch.setattr(Student, "loss", dying)
    with pytest.raises(KeyboardInterrupt):
        distill_run(*asked, tmp_path / "killed")
    resumed = distill_run(*asked, tmp_path / "killed")
    assert len(steps) < 14 + 3 * 9  # it did not begin anew
    weights = [runs.load(folder).model.state_dict() for folder in (whole, resumed)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_what_cannot_be_taught_is_said(split, teacher, tmp_path):
    work = QUICK, tmp_path
    with pytest.raises(ConfigError, match="learn from pairs"):
        distill_run(split, teacher, "ease", EASEConfig(), LISTS, *work)
    without = Run.of("ease", ease(split), split.train)
    for change in ({"feature_loss": 1.0}, {"teacher_control": "random"}):
        config = LISTS.model_copy(update=change)
        with pytest.raises(ConfigError, match="vectors"):
            distill_run(split, without, "mf", MFConfig(dim=8), config, *work)
    stranger = Run("mf", teacher.model, teacher.items[:-1], teacher.users, *teacher_log(teacher))
    with pytest.raises(BadData, match="other users or videos"):
        distill_run(split, stranger, "mf", MFConfig(dim=8), LISTS, *work)
    later = joined(split)
    with pytest.raises(BadData, match="held out"):
        distill_run(split, Run.of("ease", ease(later), later.train), "mf", MFConfig(), LISTS, *work)


def teacher_log(run):
    return run.offsets, run.item


def test_from_the_command_line(tmp_path):
    log, work = tmp_path / "log.parquet", tmp_path / "work"
    circle_events().write_parquet(log)
    few = ("--set", "train.epochs=2", "--set", "train.batch_size=24")

    def said(*words):
        result = CliRunner().invoke(app, [*map(str, words), "--work", str(work)])
        assert result.exit_code == 0, result.output
        return Path(result.stdout.splitlines()[-1])

    said("ingest", log)
    teacher = said("train", "--model", "lightgcn", *few)
    student = said("distill", "--teacher", teacher, "--set", "model.dim=4", *few)
    assert files.manifest(student)["inputs"]["teacher"] == files.manifest(teacher)["key"]
    assert said("evaluate", student).parent.name == "reports"
