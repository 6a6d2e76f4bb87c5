// The page: sends dropped files to the HTTP API and shows what comes back.

const MEBIBYTE = 2 ** 20;
const ATTEMPTS = 4; // of a request that the server has no room for
const byId = (id) => document.getElementById(id);
const info = await loadInfo();
let files = [];
let abort = new AbortController();

async function loadInfo() {
  const response = await fetch('/v1/models');
  const { models, limits } = await response.json();
  byId('model').replaceChildren(...models.map(({ name }) => new Option(name, name)));
  byId('limits').textContent =
    `up to ${limits.max_upload_mb} MiB, ${limits.max_pixels / 1e6} million pixels, ` +
    `${limits.max_frames} frames`;
  return { models: new Map(models.map((model) => [model.name, model])), limits };
}

// Requests

function makeForm(field, file, fields) {
  const form = new FormData();
  form.append(field, file, file.name);
  form.append('model', byId('model').value);
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  return form;
}

const predictFields = () => ({
  score_thr: byId('score').value,
  kpt_thr: byId('kpt').value,
  visualize: true,
});

async function post(path, form, signal) {
  for (let attempt = 1; ; attempt++) {
    const response = await fetch(path, { method: 'POST', body: form, signal });
    if (response.ok) return response;
    const wait = Number(response.headers.get('Retry-After'));
    const isBusy = response.status === 429 || response.status === 503;
    if (!isBusy || attempt === ATTEMPTS) {
      const body = await response.json().catch(() => ({}));
      throw new Error(body.detail ?? `The server answered ${response.status}.`);
    }
    setStatus(`The server is busy; trying again in ${wait} s.`);
    await new Promise((resolve) => setTimeout(resolve, 1000 * wait));
    signal.throwIfAborted();
  }
}

async function* readLines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

// Runs

const isVideo = (file) => file.type.startsWith('video/') || /\.(mkv|avi)$/i.test(file.name);

async function run() {
  abort.abort();
  abort = new AbortController();
  const { signal } = abort;
  byId('results').replaceChildren();
  byId('again').disabled = false;
  const start = performance.now();
  for (const [index, file] of files.entries()) {
    setStatus(`Processing ${index + 1} of ${files.length}: ${file.name}`);
    const card = addCard(file);
    try {
      if (file.size > info.limits.max_upload_mb * MEBIBYTE) {
        const size = (file.size / MEBIBYTE).toFixed(1);
        throw new Error(`Expected at most ${info.limits.max_upload_mb} MiB, found ${size} MiB.`);
      }
      await (isVideo(file) ? runVideo : runImage)(file, card, signal);
    } catch (error) {
      if (signal.aborted) return;
      showError(card, error);
    }
  }
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  setStatus(files.length ? `Done in ${seconds} s.` : '');
}

async function runImage(file, card, signal) {
  const response = await post('/v1/predict', makeForm('files', file, predictFields()), signal);
  const content = await response.json();
  const [image] = content.images;
  showPicture(card, image);
  showDetails(card, image.instances, content, file, image.visualization);
  showOffsets(card, image, file, signal);
}

async function runVideo(file, card, signal) {
  const form = makeForm('file', file, { ...predictFields(), frame_step: byId('step').value });
  const response = await post('/v1/predict-video', form, signal);
  const frames = [];
  let end = null;
  for await (const line of readLines(response)) {
    if (line.instances) {
      frames.push(line);
      showPicture(card, line);
      setStatus(`${file.name}: ${frames.length} frames processed`);
    } else {
      end = line;
    }
  }
  if (frames.length) showPlayer(card, frames, signal);
  if (frames.length) showDetails(card, [], { ...end, images: frames }, file);
  if (end === null) throw new Error('The connection ended before the end of the video.');
  if (end.detail) throw new Error(end.detail);
}

// Results

function setStatus(text) {
  byId('status').textContent = text;
}

function addCard(file) {
  const card = byId('result').content.firstElementChild.cloneNode(true);
  card.querySelector('h2').textContent = file.name;
  byId('results').append(card);
  return card;
}

function showError(card, error) {
  const place = card.querySelector('.error');
  place.textContent = error.message;
  place.hidden = false;
}

function showPicture(card, image) {
  const figure = card.querySelector('figure');
  const picture = figure.querySelector('img');
  picture.src = image.visualization;
  const count = image.instances.length;
  picture.alt = `${image.source} with ${count} ${count === 1 ? 'instance' : 'instances'}`;
  figure.hidden = false;
}

function showDetails(card, instances, content, file, picture) {
  const images = content.images.map(({ visualization, ...image }) => image);
  const json = new Blob([JSON.stringify({ ...content, images }, null, 1)], {
    type: 'application/json',
  });
  const stem = file.name.replace(/\.\w+$/, '');
  setDownload(card.querySelector('.json'), URL.createObjectURL(json), `${stem}.json`);
  if (picture) setDownload(card.querySelector('.image'), picture, `${stem}-result.jpg`);
  card.querySelector('.image').hidden = !picture;
  const threshold = Number(byId('kpt').value);
  const rows = instances.map(({ name, score, bbox, keypoints }, index) => {
    const [x1, y1, x2, y2] = bbox.map(Math.round);
    const visible = keypoints?.filter((point) => point && point[2] >= threshold).length;
    const cells = [
      index + 1,
      name,
      score.toFixed(2),
      `${x2 - x1} × ${y2 - y1} at ${x1}, ${y1}`,
      keypoints ? `${visible} of ${keypoints.length}` : '',
    ];
    const row = document.createElement('tr');
    for (const cell of cells) row.insertCell().textContent = cell;
    return row;
  });
  card.querySelector('tbody').replaceChildren(...rows);
  card.querySelector('table').hidden = !rows.length;
  card.querySelector('.details').hidden = false;
}

function setDownload(link, url, name) {
  link.href = url;
  link.download = name;
}

function showPlayer(card, frames, signal) {
  const player = card.querySelector('.player');
  const [play, seek] = [player.querySelector('.play'), player.querySelector('.seek')];
  const interval = frames.length > 1 ? 1000 * (frames[1].time - frames[0].time) : 0;
  let timer = null;
  const show = () => {
    const frame = frames[seek.value];
    showPicture(card, frame);
    player.querySelector('.frame').textContent = `${frame.time.toFixed(2)} s`;
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = 'Play';
  };
  seek.max = frames.length - 1;
  seek.addEventListener('input', show);
  play.addEventListener('click', () => {
    if (timer !== null) return stop();
    if (seek.value === seek.max) seek.value = 0;
    play.textContent = 'Pause';
    timer = setInterval(() => {
      if (seek.value === seek.max) return stop();
      seek.valueAsNumber += 1;
      show();
    }, interval);
  });
  signal.addEventListener('abort', stop);
  show();
  player.hidden = false;
}

function showOffsets(card, image, file, signal) {
  const part = card.querySelector('.offsets');
  const { offsets, keypoint_names: names } = info.models.get(byId('model').value);
  const [reason, choice] = [part.querySelector('.reason'), part.querySelector('.choice')];
  reason.textContent = offsets ?? '';
  reason.hidden = offsets === undefined || offsets === null;
  choice.hidden = !reason.hidden || !image.instances.length;
  const numbers = image.instances.map((_, index) => new Option(index + 1, index + 1));
  part.querySelector('.instance').replaceChildren(...numbers);
  part.querySelector('.keypoint').append(...names.map((name) => new Option(name, name)));
  const button = part.querySelector('button');
  button.addEventListener('click', async () => {
    button.disabled = true;
    setStatus(`Drawing the offsets of ${file.name}`);
    const keypoint = part.querySelector('.keypoint').value;
    const fields = { instance: part.querySelector('.instance').value };
    if (keypoint) fields.keypoint = keypoint;
    try {
      const response = await post('/v1/offsets', makeForm('file', file, fields), signal);
      const figure = part.querySelector('figure');
      const picture = figure.querySelector('img');
      picture.src = URL.createObjectURL(await response.blob());
      picture.alt = `Learned offsets of instance ${fields.instance}`;
      figure.hidden = false;
      setStatus('');
    } catch (error) {
      if (!signal.aborted) setStatus(error.message);
    }
    button.disabled = false;
  });
}

// Controls

function take(chosen) {
  files = [...chosen];
  if (files.length) run();
}

const drop = byId('drop');
byId('files').addEventListener('change', (event) => take(event.target.files));
// The whole page takes what is dropped, so that the browser does not open a file beside the mark.
document.addEventListener('dragover', (event) => {
  event.preventDefault();
  drop.classList.add('over');
});
document.addEventListener('dragleave', () => drop.classList.remove('over'));
document.addEventListener('drop', (event) => {
  event.preventDefault();
  drop.classList.remove('over');
  take(event.dataTransfer.files);
});
for (const name of ['score', 'kpt']) {
  const show = () => (byId(`${name}-value`).textContent = byId(name).value);
  byId(name).addEventListener('input', show);
  show();
}
for (const id of ['model', 'score', 'kpt', 'step']) {
  byId(id).addEventListener('change', () => files.length && run());
}
byId('again').addEventListener('click', run);
byId('controls').addEventListener('submit', (event) => event.preventDefault());
document.body.dataset.ready = '';
