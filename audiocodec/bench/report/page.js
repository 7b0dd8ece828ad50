"use strict";

// Everything works on what Python wrote into the page; nothing is fetched.
document.documentElement.classList.add("scripted");
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Legend: a chip shows its codec beside ours, in all plots and tables.
function showCodec(number) {
  all(".chip").forEach((chip) => chip.setAttribute("aria-pressed", String(chip.dataset.codec === number)));
  all(".shown").forEach((part) => part.classList.remove("shown"));
  document.body.classList.toggle("one", number !== null);
  if (number !== null) {
    all(`.series-${number}, .codec-${number}`).forEach((part) => part.classList.add("shown"));
  }
}
all(".chip").forEach((chip) =>
  chip.addEventListener("click", () =>
    showCodec(chip.getAttribute("aria-pressed") === "true" ? null : chip.dataset.codec),
  ),
);

// Players: one sounds at a time, and goes on where the last one of its clip stopped.
const sound = { audio: null, clip: null };

function stopSound() {
  if (sound.audio) sound.audio.pause();
}

function startSound(audio, clip, seconds) {
  const last = sound.audio;
  const at = seconds ?? (last && last !== audio && sound.clip === clip && !last.ended ? last.currentTime : null);
  stopSound();
  Object.assign(sound, { audio, clip });
  if (at !== null) audio.currentTime = at;
  return audio.play().catch((error) => {
    if (error.name !== "AbortError") throw error; // another player was pressed before this one had begun
  });
}

function setUpTrack(track) {
  const audio = track.querySelector("audio");
  const button = track.querySelector(".play");
  const picture = track.querySelector(".spectrogram");
  const follow = () => {
    if (audio.duration) picture.style.setProperty("--at", audio.currentTime / audio.duration);
    if (!audio.paused) requestAnimationFrame(follow);
  };
  const press = (state) => () => button.setAttribute("aria-pressed", state);
  audio.controls = false;
  audio.addEventListener("play", press("true"));
  audio.addEventListener("play", follow);
  audio.addEventListener("pause", press("false"));
  button.addEventListener("click", () =>
    audio.paused ? startSound(audio, track.dataset.clip) : audio.pause(),
  );
  button.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !audio.duration) return;
    event.preventDefault();
    audio.currentTime = Math.min(Math.max(audio.currentTime + step, 0), audio.duration);
    follow();
  });
  picture.addEventListener("click", async (event) => {
    const share = event.offsetX / picture.clientWidth;
    await startSound(audio, track.dataset.clip, 0);
    if (audio.duration) audio.currentTime = share * audio.duration;
  });
}
all(".track").forEach(setUpTrack);

// Blind test.

/** Chance of `right` or more out of `n` by tossing a coin. */
function guessing(right, n) {
  let term = 0.5 ** n;
  let sum = 0;
  for (let k = 0; k <= n; k += 1) {
    if (k >= right) sum += term;
    term *= (n - k) / (k + 1);
  }
  return Math.min(sum, 1);
}

/** The bytes of a player's audio under a new name, so that no address tells X from A and B. */
function copyOf(track) {
  const text = atob(track.querySelector("audio").src.split(",")[1]);
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  const audio = new Audio(URL.createObjectURL(new Blob([bytes], { type: "audio/flac" })));
  audio.loop = true;
  return audio;
}

function setUpBlindTest(section) {
  const part = (selector) => section.querySelector(selector);
  const names = [...new Set(all(".track").map((track) => track.dataset.track))];
  const [first, second] = ["a", "b"].map((name) => part(`select[name=${name}]`));
  const tally = new Map(); // "A name\nB name" -> { a, b, right, n }
  let trial = null; // { players: { a, b, x }, secret: "a" or "b", answered }
  let lastClip = null;

  function bothTracks(clip) {
    const of = (name) => all(".track").find((t) => t.dataset.clip === clip && t.dataset.track === name);
    return [of(first.value), of(second.value)];
  }

  function endTrial() {
    stopSound();
    if (trial) Object.values(trial.players).forEach((audio) => URL.revokeObjectURL(audio.src));
    trial = null;
  }

  function startTrial() {
    endTrial();
    let clips = [...new Set(all(".track").map((track) => track.dataset.clip))];
    clips = clips.filter((clip) => bothTracks(clip).every(Boolean));
    if (clips.length > 1) clips = clips.filter((clip) => clip !== lastClip);
    const possible = clips.length > 0 && first.value !== second.value;
    if (possible) {
      lastClip = clips[Math.floor(Math.random() * clips.length)];
      const [a, b] = bothTracks(lastClip);
      const secret = Math.random() < 0.5 ? "a" : "b";
      const players = { a: copyOf(a), b: copyOf(b), x: copyOf(secret === "a" ? a : b) };
      trial = { players, secret, answered: false };
      Object.entries(players).forEach(([key, audio]) => followPlayer(key, audio));
      say("Play A, B and X.");
    } else {
      say(first.value === second.value ? "Choose two different ones." : "No clip has both of these.");
    }
    all("[data-play]", section).forEach((button) => (button.disabled = !possible));
    allowAnswers(false);
  }

  function followPlayer(key, audio) {
    const button = part(`[data-play=${key}]`);
    const press = (state) => () => button.setAttribute("aria-pressed", state);
    audio.addEventListener("play", press("true"));
    audio.addEventListener("pause", press("false"));
  }

  function say(text) {
    part(".verdict").textContent = text;
  }

  function allowAnswers(allowed) {
    all("[data-answer]", section).forEach((button) => (button.disabled = !allowed));
    part("[data-next]").disabled = !(trial && trial.answered);
  }

  async function play(key) {
    const current = trial; // another may have begun before this sounds
    const audio = current.players[key];
    if (!audio.paused) return audio.pause();
    await startSound(audio, current);
    if (key === "x" && trial === current && !current.answered) allowAnswers(true);
  }

  function answer(key) {
    const right = key === trial.secret;
    const pair = `${first.value}\n${second.value}`;
    const count = tally.get(pair) ?? { a: first.value, b: second.value, right: 0, n: 0 };
    count.n += 1;
    count.right += right ? 1 : 0;
    tally.set(pair, count);
    trial.answered = true;
    stopSound();
    const name = trial.secret === "a" ? first.value : second.value;
    say(`${right ? "Right" : "Wrong"}: X was ${trial.secret.toUpperCase()}, ${name}.`);
    allowAnswers(false);
    showTally();
    part("[data-next]").focus();
  }

  function showTally() {
    const rows = [...tally.values()].map(({ a, b, right, n }) => {
      const row = document.createElement("tr");
      const p = guessing(right, n);
      for (const text of [a, b, right, n, p < 0.001 ? "< 0.001" : p.toFixed(3)]) row.insertCell().textContent = text;
      return row;
    });
    if (rows.length === 0) {
      const row = document.createElement("tr");
      const cell = row.insertCell();
      Object.assign(cell, { colSpan: 5, className: "none", textContent: "no trial yet" });
      rows.push(row);
    }
    part(".tally tbody").replaceChildren(...rows);
  }

  function fillChoices() {
    for (const [select, chosen] of [[first, 0], [second, 1]]) {
      select.replaceChildren(...names.map((name) => new Option(name)));
      select.selectedIndex = Math.min(chosen, names.length - 1);
      select.addEventListener("change", startTrial);
    }
  }

  const keys = { 1: "[data-answer=a]", 2: "[data-answer=b]", n: "[data-next]" };
  for (const key of ["a", "b", "x"]) keys[key] = `[data-play=${key}]`;
  section.addEventListener("keydown", (event) => {
    const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
    const button = keys[event.key.toLowerCase()];
    if (!plain || !button || event.target.matches("select")) return; // a list has letters of its own
    event.preventDefault();
    part(button).click(); // a disabled button ignores it
  });
  all("[data-play]", section).forEach((b) => b.addEventListener("click", () => play(b.dataset.play)));
  all("[data-answer]", section).forEach((b) => b.addEventListener("click", () => answer(b.dataset.answer)));
  part("[data-next]").addEventListener("click", () => {
    startTrial();
    part("[data-play=x]").focus();
  });
  part("[data-reset]").addEventListener("click", () => {
    tally.clear();
    showTally();
  });
  fillChoices();
  startTrial();
}
all("#abx").forEach(setUpBlindTest);
