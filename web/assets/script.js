'use strict';

// Parts with `data-live` and an id are shown anew as events come; the rest of the page, and what is typed, stays.
// Only a page that is looked at listens: a browser keeps six connections to a server at a time, and one that is held by a
// page in the background, or by one that was left, is missing elsewhere.
const events = document.body.dataset.events;
if (events) {
  let source, timer, busy = false, again = false;
  const refresh = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: 'text/html' } });
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
        for (const part of document.querySelectorAll('[data-live]')) {
          const other = fresh.getElementById(part.id);
          if (other && other.innerHTML !== part.innerHTML && !part.contains(document.activeElement)) part.replaceWith(other);
        }
      }
    } catch { /* The stream opens again by itself, and then the page is asked for again. */ }
    busy = false;
    if (again) { again = false; soon(); }
  };
  const soon = () => { clearTimeout(timer); timer = setTimeout(refresh, 400); };
  const stop = () => { source?.close(); source = undefined; };
  const listen = isFirst => {
    stop();
    let opened = isFirst;
    source = new EventSource(events);
    source.onmessage = soon;
    source.addEventListener('lagged', soon);
    // What happened while nobody listened is made up for.
    source.onopen = () => { if (!opened) soon(); opened = false; };
  };
  addEventListener('pagehide', stop);
  addEventListener('pageshow', event => { if (event.persisted) listen(false); });
  document.addEventListener('visibilitychange', () => document.hidden ? stop() : listen(false));
  listen(true);
}

// Whole numbers go beyond what a script's numbers hold: they are bigint here, and bare digits in the body.
const toJson = value => {
  if (typeof value === 'bigint') return value.toString();
  if (Array.isArray(value)) return `[${value.map(toJson).join(',')}]`;
  if (value && typeof value === 'object') return `{${Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}:${toJson(v)}`).join(',')}}`;
  return JSON.stringify(value);
};

// `a.b` names a field within a field. What is left empty is left out.
const bodyOf = form => {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || field.disabled || (field.type === 'radio' && !field.checked)) continue;
    let value = field.type === 'checkbox' ? field.checked : field.value;
    if (field.type === 'file') continue;
    if (value === '' && field.dataset.keep === undefined) continue;
    if (field.dataset.kind === 'integer') {
      const text = value.trim();
      if (!/^[0-9]{1,20}$/.test(text)) throw new Error(`${field.dataset.label || field.name}: ${JSON.stringify(text)} is not a whole number`);
      value = BigInt(text);
    }
    const names = field.name.split('.');
    const last = names.pop();
    let at = body;
    for (const name of names) at = at[name] ??= {};
    at[last] = value;
  }
  return body;
};

const at = (value, path) => path.split('.').reduce((found, name) => found?.[name], value);
const filled = (template, answer) => template.replace(/\{([a-z_0-9.]+)\}/g, (_, path) => String(at(answer, path) ?? ''));

const refusal = async answer => {
  let text = `${answer.status} ${answer.statusText}`;
  try {
    const error = await answer.json();
    if (error.message) text = error.message + (error.hint ? ` – ${error.hint}` : '');
  } catch { /* No error of ours. */ }
  return text;
};

const say = (output, text, kind) => {
  output.textContent = text;
  output.className = kind;
};

const ended = (element, output, answer) => {
  if (element.dataset.done) say(output, filled(element.dataset.done, answer), 'good');
  if (element.dataset.link) {
    const link = document.createElement('a');
    link.href = filled(element.dataset.link, answer);
    link.textContent = element.dataset.linkText || link.href;
    output.append(' ', link);
  }
  if (element.dataset.then === 'reload') location.reload();
  else if (element.dataset.then) location.assign(new URL(filled(element.dataset.then, answer), document.baseURI));
};

// While something takes long, what the status says of it.
const watch = (path, bar) => {
  let live = true;
  const step = async () => {
    if (!live) return;
    try {
      const status = await (await fetch(path)).json();
      const mining = status.mining;
      if (live && mining) {
        bar.hidden = false;
        bar.max = Math.max(mining.expected, mining.attempts, 1);
        bar.value = mining.attempts;
      }
    } catch { /* It is only the progress. */ }
    setTimeout(step, 300);
  };
  step();
  return () => { live = false; bar.hidden = true; };
};

document.addEventListener('submit', async event => {
  const form = event.target;
  if (!form.dataset.post) return;
  event.preventDefault();
  const output = form.querySelector('output') || document.createElement('output');
  const button = form.querySelector('button');
  const bar = form.querySelector('progress');
  let stop = () => {};
  try {
    const body = bodyOf(form);
    const file = form.querySelector('input[type=file]');
    if (file?.files.length) body[file.name] = await file.files[0].text();
    const path = form.dataset.post.replace(/\{([a-z_]+)\}/g, (_, name) => {
      const value = body[name];
      delete body[name];
      return encodeURIComponent(String(value ?? ''));
    });
    button.disabled = true;
    say(output, '', '');
    if (bar && form.dataset.progress) stop = watch(form.dataset.progress, bar);
    const answer = await fetch(path, {
      method: form.dataset.method || 'POST',
      headers: { 'content-type': 'application/json' },
      body: toJson(body),
    });
    if (!answer.ok) throw new Error(await refusal(answer));
    for (const field of form.querySelectorAll('[data-clear]')) field.value = '';
    ended(form, output, await answer.json());
  } catch (error) {
    say(output, error.message, 'bad');
  } finally {
    stop();
    button.disabled = false;
  }
});

document.addEventListener('click', async event => {
  const button = event.target.closest('button[data-get]');
  if (!button) return;
  const output = document.getElementById(button.dataset.output);
  button.disabled = true;
  try {
    const answer = await fetch(button.dataset.get);
    if (!answer.ok) throw new Error(await refusal(answer));
    ended(button, output, await answer.json());
  } catch (error) {
    say(output, error.message, 'bad');
  } finally {
    button.disabled = false;
  }
});
