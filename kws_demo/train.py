"""Speech as the training loop takes it: augmented batches, the listener's loss, and accuracy with its error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from kws_demo.augment import SPEECH_FREE_SAMPLES, Augmenter, evaluation_batch, spec_augment
from kws_demo.data import Clips, SpeechData
from kws_demo.hints import UNTOLD, Teacher, hinted, with_hints
from kws_demo.speech_embedding import SIZE
from kws_demo.splice import alike, said_alone, spliced
from kws_demo.task import Accuracy, Batch, standard_error
from toolkit.adaptive import Network
from toolkit.supernet import recalibrate
from toolkit.training import predict

CLIP_SAMPLES = 16_000
CONTEXT_SAMPLES = 9_600
BATCH = 128
EARLY_WEIGHT = 0.2
SILENT_HOPS = 20
QUIET = 1e-4  # RMS of what follows a clip
TALK_ROWS = 32  # beside the clips of a batch
TALK = -1  # their label: any but a keyword, at every hop
SPARE_ROWS = 32  # of other words, beside the clips of a batch, where there is a teacher
SILENT_EVERY = 16  # of the training examples, one is digital silence
Item = TypeVar("Item")


class Speech:
    """Features and labels of the three parts of the data, made by a network's own front-end.

    A training example is what a stream would have heard: some context, then a second that ends with the word.

    Args:
        data: clips.
        stem: front-end, on the CPU.
        hop_samples: of the listener; an example is a whole number of hops.
        device: where the features go.
        taught: with the hints of a teacher; what is trained on it is a `Student`.

    Raises:
        MilliwiseError: the teacher is not installed, or another.
    """

    def __init__(
        self,
        data: SpeechData,
        stem: nn.Module,
        hop_samples: int,
        seed: int,
        device: str = "cpu",
        taught: bool = False,
    ) -> None:
        self.data = data
        self.stem = stem
        self.seed = seed
        self.device = device
        self.hop_samples = hop_samples
        length = math.ceil((CLIP_SAMPLES + CONTEXT_SAMPLES) / hop_samples) * hop_samples
        self.context_samples = length - CLIP_SAMPLES
        speech_free = max(SPEECH_FREE_SAMPLES, hop_samples)
        self.early_hops = speech_free // hop_samples
        self._augmenter = Augmenter(
            data.noise, seed, context_samples=self.context_samples, speech_free_samples=speech_free
        )
        self._audio = torch.from_numpy(data.train.audio)
        self._labels = torch.from_numpy(data.train.label)
        self._alone = torch.from_numpy(said_alone(data.train))
        self._apart = ~alike(data.labels)
        self._talk, self._spare = torch.from_numpy(data.talk), torch.from_numpy(data.spare)
        self._teacher = Teacher(self._audio, hop_samples) if taught else None
        self._evaluation: dict[str, list[Batch]] = {}

    @property
    def clip_end_hop(self) -> int:
        """The hop, in what `heard` gives, whose window is the clip."""
        return (self.context_samples + CLIP_SAMPLES) // self.hop_samples - 1

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return max(1, len(self._labels) // BATCH)

    def training(self, epoch: int) -> Iterator[Batch]:
        """The augmented batches of an epoch, the same whenever that epoch is asked for."""
        return prefetched(self._augmented(epoch))

    def _augmented(self, epoch: int, hardened: bool = True) -> Iterator[Batch]:
        generator = self._augmenter.generator.manual_seed(self.seed * 7919 + epoch)
        order = torch.randperm(len(self._labels), generator=generator)
        for step in range(self.steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            clips, labels, alone = self._audio[chosen], self._labels[chosen], self._alone[chosen]
            clips, labels = spliced(clips, labels, alone, self._apart, generator)
            audio, labels = self._with_others(self._augmenter(clips, labels), labels, generator)
            with torch.no_grad():
                features = self.stem(audio)
            if hardened:
                features = spec_augment(features, generator)
                # Whatever else it is taught, a listener starts in perfect silence and has to know it.
                features[::SILENT_EVERY] = 0.0
                labels = labels.index_fill(0, torch.arange(0, len(labels), SILENT_EVERY), 0)
                if self._teacher is not None:
                    labels = with_hints(labels, self._hints(self._teacher, audio, labels))
            yield features.to(self.device), labels.to(self.device)

    def _with_others(self, audio: Tensor, labels: Tensor, generator: torch.Generator) -> Batch:
        """Examples, excerpts of the talk and what only a teacher tells of, mixed: a batch may be cut into groups."""
        parts = [(audio, labels)]
        if len(self._talk) >= audio.shape[1]:
            rows = TALK_ROWS * len(labels) // BATCH
            parts.append((self._augmenter.excerpts(self._talk, rows), labels.new_full((rows,), TALK)))
        if self._teacher is not None and len(self._spare):
            rows = SPARE_ROWS * len(labels) // BATCH
            clips = self._spare[torch.randint(len(self._spare), (rows,), generator=generator)]
            untold = labels.new_full((rows,), UNTOLD)
            parts.append((self._augmenter(clips, untold), untold))
        if len(parts) == 1:
            return audio, labels
        order = torch.randperm(sum(len(part) for _audio, part in parts), generator=generator)
        together = (torch.cat(each) for each in zip(*parts, strict=True))
        heard, told = (each[order] for each in together)
        return heard, told

    def _hints(self, teacher: Teacher, audio: Tensor, labels: Tensor) -> Tensor:
        """Those of every second example, and of all that have nothing else: a teacher takes its time."""
        chosen = (torch.arange(len(labels)) % 2 == 1) | (labels == UNTOLD)
        hints = torch.full((len(labels), audio.shape[1] // self.hop_samples, SIZE), math.nan)
        hints[chosen] = teacher(audio[chosen])
        return hints

    def evaluation(self, part: str) -> list[Batch]:
        """The plain clips of `train`, `validation` or `test`, after silence."""
        if part not in self._evaluation:
            clips: Clips = getattr(self.data, part)
            self._evaluation[part] = list(self._plain(clips))
        return self._evaluation[part]

    def _plain(self, clips: Clips) -> Iterator[Batch]:
        for start in range(0, len(clips.label), BATCH):
            audio = torch.from_numpy(clips.audio[start : start + BATCH])
            with torch.no_grad():
                features = self.stem(evaluation_batch(audio, self.context_samples))
            yield features.to(self.device), torch.from_numpy(clips.label[start : start + BATCH]).to(self.device)

    def heard(self, network: Network, splices: bool = False, copies: int = 2) -> Iterator[Batch]:
        """Logits [batch, hops, labels] and labels of the validation clips, augmented and followed by a second.

        Every clip comes `copies` times; with `splices` only unknown words that are made of keywords, as in training,
        and possibly none.
        """
        clips, after = self.data.validation, math.ceil(CLIP_SAMPLES / self.hop_samples) * self.hop_samples
        alone = said_alone(clips)
        generator = self._augmenter.generator.manual_seed(self.seed * 7919 + 20_000)
        network.eval()
        order = torch.randperm(copies * len(clips.label), generator=generator)  # stored label by label
        for chosen in order.split(BATCH):
            rows = (chosen % len(clips.label)).numpy()
            audio, labels = torch.from_numpy(clips.audio[rows]), torch.from_numpy(clips.label[rows])
            if splices:
                audio, given = spliced(audio, labels, torch.from_numpy(alone[rows]), self._apart, generator)
                audio, labels = audio[given != labels], given[given != labels]
                if not len(labels):
                    continue
            audio = self._augmenter(audio, labels)
            rest = QUIET * torch.randn(len(audio), after, generator=generator)
            with torch.no_grad():
                logits = network.from_features(self.stem(torch.cat([audio, rest], 1)).to(self.device))
            yield logits, labels

    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The listener's loss for these examples."""

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            return listener_loss(logits, labels, self.early_hops)

        return loss if self._teacher is None else hinted(loss)

    def recalibrate(self, network: Network, kept: Iterable[str] | None = None, batches: int = 8) -> None:
        """Recalibrate the BatchNorms of a network (or a sub-network of it) on training examples as a stream has them.

        There are no SpecAugment masks in a stream, so the statistics have none.
        """
        chosen = [batch for batch, _index in zip(self._augmented(10_000, hardened=False), range(batches), strict=False)]

        def forward_all() -> None:
            for features, _labels in chosen:
                network.from_features(features, kept)

        recalibrate(network, forward_all)

    def hears_silence(self, network: Network) -> bool:
        """Whether digital silence is labelled as silence from the first hop on."""
        return self.silence_lead(network) >= 0

    def silence_lead(self, network: Network) -> float:
        """By how much, in digital silence, the logit of silence is above all others, in the hop where it is least."""
        with torch.no_grad():
            features = self.stem(torch.zeros(1, SILENT_HOPS * self.hop_samples)).to(self.device)
            logits = network.eval().from_features(features)[0]
            return float((logits[:, 0] - logits[:, 1:].amax(1)).min())


def listener_loss(logits: Tensor, labels: Tensor, early_hops: int) -> Tensor:
    """Cross-entropy after the last hop; before anything was said, and all through silence, the answer is silence.

    Without the second part a listener that starts from empty caches says anything at first. All through talk no answer
    may be a keyword.

    Args:
        logits: [batch, hops, labels].
        labels: [batch], 0 for silence, -1 for talk.
        early_hops: first hops of every example, but talk, that are free of speech.
    """
    talk = labels == TALK
    total = functional.cross_entropy(logits[~talk, -1], labels[~talk]) if not talk.all() else logits.new_zeros(())
    quiet = torch.zeros(logits.shape[:2], dtype=torch.bool, device=logits.device)
    quiet[:, :early_hops] = True
    quiet[talk] = False
    quiet[labels == 0] = True
    if quiet.any():
        early = logits[quiet]
        total = total + EARLY_WEIGHT * functional.cross_entropy(early, early.new_zeros(len(early), dtype=torch.long))
    if talk.any():
        no_keyword = logits[talk].log_softmax(-1)[..., :2].logsumexp(-1)
        total = total - no_keyword.mean()
    return total


def prefetched(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, the next one made by a thread while one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def accuracy(network: Network, batches: Iterable[Batch], kept: Iterable[str] | None = None) -> Accuracy:
    """Accuracy of a network in evaluation mode on plain clips."""
    pairs = [(logits[:, -1].cpu(), labels.cpu()) for logits, labels in predict(network, batches, kept)]
    logits, labels = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
    given, count = logits.argmax(1), logits.shape[1]
    confusion = torch.bincount(labels * count + given, minlength=count * count).reshape(count, count)
    share = float((given == labels).double().mean())
    words = labels >= 2
    between = float((logits[words, 2:].argmax(1) + 2 == labels[words]).double().mean()) if words.any() else math.nan
    clips = len(labels)
    return Accuracy(share, standard_error(share, clips), between, clips, confusion.numpy())
