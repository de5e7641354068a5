'use strict';

// Gives a part of the page what is new in it, and leaves alone what a person is at: where the focus is, what is unfolded,
// what an answer said. Rows are told apart by `data-key`, so that one more above does not make another of each below.
const keyOf = node => node.dataset?.key || node.id || '';
const OF_PEOPLE = new Set(['open', 'disabled']);

const merge = (old, fresh) => {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.nodeName === 'OUTPUT') return;
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !OF_PEOPLE.has(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !OF_PEOPLE.has(name)) old.setAttribute(name, value);
  }
  const keyed = new Map([...old.children].filter(keyOf).map(node => [keyOf(node), node]));
  let at = old.firstChild;
  for (const next of fresh.childNodes) {
    const key = keyOf(next);
    const found = key ? keyed.get(key) : at && !keyOf(at) && at.nodeName === next.nodeName ? at : undefined;
    if (found && found.nodeName === next.nodeName) {
      if (found === at) at = at.nextSibling; else old.insertBefore(found, at);
      merge(found, next);
    } else old.insertBefore(document.importNode(next, true), at);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
};

// On a narrow screen a row stands as a list: each cell then says what it is.
const label = within => {
  for (const table of within.querySelectorAll('table')) {
    const names = [...table.querySelectorAll('thead th')].map(cell => cell.textContent);
    for (const row of table.querySelectorAll('tbody tr')) {
      [...row.cells].forEach((cell, at) => { if (names[at]) cell.dataset.label = names[at]; });
    }
    table.classList.add('rows');
  }
};
label(document);

// Parts with `data-live` and an id are shown anew as events come, and every ten seconds for what only time changes.
// Only a page that is looked at listens: a browser keeps six connections to a server at a time, and one that is held by a
// page in the background, or by one that was left, is missing elsewhere.
const EVERY_MS = 10_000;
const events = document.body.dataset.events;
let soon = () => {};
if (events) {
  let source, timer, busy = false, again = false;
  const refresh = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: 'text/html' } });
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
        label(fresh);
        for (const part of document.querySelectorAll('[data-live]')) {
          const other = fresh.getElementById(part.id);
          if (other) merge(part, other);
        }
      }
    } catch { /* The stream opens again by itself, and then the page is asked for again. */ }
    busy = false;
    clearTimeout(timer);
    if (source) timer = setTimeout(refresh, again ? 400 : EVERY_MS);
    again = false;
  };
  soon = () => { clearTimeout(timer); timer = setTimeout(refresh, 400); };
  const stop = () => { source?.close(); source = undefined; clearTimeout(timer); };
  const listen = isFirst => {
    stop();
    let opened = isFirst;
    source = new EventSource(events);
    source.onmessage = soon;
    source.addEventListener('lagged', soon);
    // What happened while nobody listened is made up for.
    source.onopen = () => { if (!opened) soon(); opened = false; };
    timer = setTimeout(refresh, EVERY_MS);
  };
  addEventListener('pagehide', stop);
  addEventListener('pageshow', event => { if (event.persisted) listen(false); });
  document.addEventListener('visibilitychange', () => document.hidden ? stop() : listen(false));
  if (!document.hidden) listen(true);
}

// Signing in leads back to where one was.
const signIn = () => {
  const here = location.pathname + location.search;
  return new URL(`login?then=${encodeURIComponent(here)}`, document.baseURI).href;
};
const isLogin = location.pathname.endsWith('/login');
if (!isLogin) for (const link of document.querySelectorAll('a[href="login"]')) link.href = signIn();
const back = () => {
  const told = new URLSearchParams(location.search).get('then');
  if (!told) return undefined;
  const wanted = new URL(told, document.baseURI);
  return wanted.origin === location.origin ? wanted : undefined;
};

// Whole numbers go beyond what a script's numbers hold: they are bigint here, and bare digits in the body.
const toJson = value => {
  if (typeof value === 'bigint') return value.toString();
  if (Array.isArray(value)) return `[${value.map(toJson).join(',')}]`;
  if (value && typeof value === 'object') return `{${Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}:${toJson(v)}`).join(',')}}`;
  return JSON.stringify(value);
};

const whole = (field, text) => {
  if (!/^[0-9]{1,20}$/.test(text)) throw new Error(`${field.dataset.label || field.name}: ${JSON.stringify(text)} is not a whole number`);
  return BigInt(text);
};

// As the page shows it, with so many digits after the point, in base units.
const amount = (field, text) => {
  const digits = Number(field.dataset.decimals);
  if (!digits) return whole(field, text);
  const [, units, part = ''] = /^([0-9]{1,20})(?:\.([0-9]+))?$/.exec(text) ?? [];
  if (units === undefined || part.length > digits) throw new Error(`${field.dataset.label || field.name}: ${JSON.stringify(text)} is not a number with at most ${digits} digits after the point`);
  return BigInt(units + part.padEnd(digits, '0'));
};

// `a.b` names a field within a field. What is left empty is left out.
const bodyOf = form => {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || field.disabled || (field.type === 'radio' && !field.checked)) continue;
    let value = field.type === 'checkbox' ? field.checked : field.value;
    if (field.type === 'file') continue;
    if (value === '' && field.dataset.keep === undefined) continue;
    if (field.dataset.kind === 'integer') value = whole(field, value.trim());
    if (field.dataset.kind === 'amount') value = amount(field, value.trim());
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
  return Object.assign(new Error(text), { status: answer.status });
};

const say = (output, text, kind) => {
  output.textContent = text;
  output.classList.remove('good', 'bad');
  if (kind) output.classList.add(kind);
};

// A refusal for lack of a session has a way to one.
const failed = (output, error) => {
  say(output, error.message, 'bad');
  if (error.status !== 401 || isLogin) return;
  output.textContent = 'You are not signed in, or not any more. ';
  const link = document.createElement('a');
  link.href = signIn();
  link.textContent = 'Sign in';
  output.append(link);
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
  else if (isLogin && back()) location.assign(back());
  else if (element.dataset.then) location.assign(new URL(filled(element.dataset.then, answer), document.baseURI));
};

// While something takes long, what the status says of it.
const watch = (path, bar, output) => {
  let live = true;
  const began = Date.now();
  const step = async () => {
    if (!live) return;
    try {
      const status = await (await fetch(path)).json();
      const mining = status.mining;
      if (live && mining) {
        bar.hidden = false;
        bar.max = Math.max(mining.expected, mining.attempts, 1);
        bar.value = mining.attempts;
        const seconds = Math.round((Date.now() - began) / 1000);
        say(output, `Block ${mining.height}: ${mining.attempts.toLocaleString('en')} attempts in ${seconds} s; ${mining.expected.toLocaleString('en')} are needed on average.`, '');
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
  if (form.dataset.confirm && !confirm(form.dataset.confirm)) return;
  const output = form.querySelector('output') || document.createElement('output');
  const button = form.querySelector('button');
  const bar = form.querySelector('progress');
  let stop = () => {};
  try {
    const again = form.querySelector('[data-again]');
    if (again && again.value !== form.elements[again.dataset.again].value) throw new Error(again.dataset.label);
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
    if (bar && form.dataset.progress) stop = watch(form.dataset.progress, bar, output);
    const answer = await fetch(path, {
      method: form.dataset.method || 'POST',
      headers: { 'content-type': 'application/json' },
      body: toJson(body),
    });
    if (!answer.ok) throw await refusal(answer);
    for (const field of form.querySelectorAll('[data-clear]')) field.value = '';
    ended(form, output, await answer.json());
    soon();
  } catch (error) {
    failed(output, error);
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
    if (!answer.ok) throw await refusal(answer);
    ended(button, output, await answer.json());
  } catch (error) {
    failed(output, error);
  } finally {
    button.disabled = false;
  }
});
