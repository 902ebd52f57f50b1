// The API's description as a page: calm, complete, without a library.
import { $, copyButton, h } from './dom.js';
import { themeSwitch } from './theme.js';

const DEPTH_MAX = 4;
const LANGUAGE = 'postrider.language';

themeSwitch($('bar'));

/** Text with `code` in it. */
function prose(text) {
  return String(text ?? '').split(/(`[^`]+`)/).map((part) => (part.startsWith('`') ? h('code', {}, part.slice(1, -1)) : part));
}

const paragraphs = (text) => String(text ?? '').split('\n\n').filter(Boolean).map((part) => h('p', {}, prose(part)));

class Page {
  constructor(description) {
    this.description = description;
  }

  resolve(schema) {
    const name = schema?.$ref?.split('/').pop();
    return name ? { ...this.description.components.schemas[name], ...(schema.description ? { description: schema.description } : {}) } : schema ?? {};
  }

  /** A schema in a few words. */
  kind(schema) {
    const whole = this.resolve(schema);
    if (whole.oneOf || whole.anyOf) return [...new Set((whole.oneOf ?? whole.anyOf).map((one) => this.kind(one)))].join(' or ');
    if (whole.enum) return whole.enum.length > 8 ? 'one of the codes' : whole.enum.map((value) => `“${value}”`).join(', ');
    const types = [].concat(whole.type ?? 'any JSON');
    return types.map((type) => (type === 'array' ? `list of ${this.kind(whole.items)}` : type)).join(' or ');
  }

  /** What limits a schema has. */
  limits(schema) {
    const { minimum, maximum, minLength, maxLength, minItems, maxItems, format } = this.resolve(schema);
    const range = (from, to, unit) => from === undefined && to === undefined ? null
      : to === undefined ? `at least ${from}${unit}` : from === undefined ? `up to ${to.toLocaleString('en')}${unit}` : `${from} to ${to.toLocaleString('en')}${unit}`;
    const words = [range(minimum, maximum, ''), range(minLength, maxLength, ' characters'), range(minItems, maxItems, ' of them')];
    if (format === 'date-time') words.push('RFC 3339');
    return words.filter(Boolean).join(', ');
  }

  /** The object inside lists and alternatives, if there is one to unfold. */
  inner(schema) {
    const whole = this.resolve(schema);
    if (whole.properties || whole.allOf) return whole;
    if (whole.items) return this.inner(whole.items);
    const choice = (whole.oneOf ?? whole.anyOf ?? []).map((one) => this.inner(one)).find(Boolean);
    return choice;
  }

  fields(schema, depth = 0) {
    const whole = this.inner(schema);
    if (!whole || depth > DEPTH_MAX) return null;
    const parts = whole.allOf ? whole.allOf.map((part) => this.inner(part)).filter(Boolean) : [whole];
    const required = new Set(parts.flatMap((part) => part.required ?? []));
    const entries = parts.flatMap((part) => Object.entries(part.properties ?? {}));
    entries.sort(([a], [b]) => required.has(b) - required.has(a));
    return h('dl', { class: 'names' }, entries.map(([name, field]) => {
      const below = this.fields(field, depth + 1);
      const facts = [this.kind(field), this.limits(field), required.has(name) ? '' : 'optional'].filter(Boolean).join(' · ');
      const deeper = below && (depth < 1 ? below : h('details', {}, h('summary', {}, 'Its fields'), below));
      return h('div', {}, h('dt', {}, h('code', {}, name)), h('dd', {}, prose(this.resolve(field).description), h('small', {}, facts), deeper));
    }));
  }

  parameters(list) {
    if (!list?.length) return [];
    const rows = list.map((one) => h('div', {}, h('dt', {}, h('code', {}, one.name)),
      h('dd', {}, prose(one.description), h('small', {}, [`in the ${one.in}`, this.kind(one.schema), this.limits(one.schema), one.required ? '' : 'optional'].filter(Boolean).join(' · ')))));
    return [h('h4', {}, 'Parameters'), h('dl', { class: 'names' }, rows)];
  }

  example(content) {
    return content.example === undefined ? null : h('pre', { tabindex: 0, 'aria-label': 'Example' }, JSON.stringify(content.example, null, 2));
  }

  body(body) {
    const content = body?.content?.['application/json'];
    return content ? [h('h4', {}, 'Body'), this.fields(content.schema), this.example(content)] : [];
  }

  answers(responses) {
    const good = Object.entries(responses).filter(([status, answer]) => status < 400 || !answer.content?.['application/problem+json']);
    const bad = Object.entries(responses).filter((entry) => !good.includes(entry));
    const row = ([status, answer]) => {
      const [type, content] = Object.entries(answer.content ?? {})[0] ?? [];
      const json = type === 'application/json' ? content : undefined;
      const fields = json && this.fields(json.schema);
      const more = json && (fields || json.example) && h('details', {}, h('summary', {}, 'What it holds'), this.example(json), fields);
      return h('div', {}, h('dt', {}, h('code', {}, status)), h('dd', {}, prose(answer.description), type && !json ? h('small', {}, type) : null, more));
    };
    const refusals = bad.length > 0 && h('details', {}, h('summary', {}, `How it refuses (${bad.map(([status]) => status).join(', ')})`),
      h('dl', { class: 'names' }, bad.map(([status, answer]) => h('div', {}, h('dt', {}, h('code', {}, status)), h('dd', {}, prose(answer.description))))));
    return [h('h4', {}, 'Answers'), h('dl', { class: 'names' }, good.map(row)), refusals];
  }

  samples(list, id) {
    if (!list?.length) return [];
    const text = h('code');
    const pre = h('pre', { tabindex: 0, role: 'tabpanel', id: `${id}-sample`, 'aria-label': 'Example program' }, text);
    const tabs = list.map((sample, at) => h('button', {
      type: 'button', class: 'small', role: 'tab', 'aria-controls': `${id}-sample`, 'data-label': sample.label,
      onclick: () => choose(at, true),
      onkeydown: ({ key }) => {
        const to = key === 'ArrowRight' ? at + 1 : key === 'ArrowLeft' ? at - 1 : undefined;
        if (to !== undefined) { const next = (to + list.length) % list.length; choose(next, true); tabs[next].focus(); }
      },
    }, sample.label));
    const choose = (at, keep) => {
      text.textContent = list[at].source;
      tabs.forEach((tab, place) => { tab.setAttribute('aria-selected', place === at); tab.tabIndex = place === at ? 0 : -1; });
      if (keep) { try { localStorage.setItem(LANGUAGE, list[at].label); } catch { /* Not remembered then. */ } }
    };
    let wanted;
    try { wanted = localStorage.getItem(LANGUAGE); } catch { /* Not remembered then. */ }
    choose(Math.max(list.findIndex((sample) => sample.label === wanted), 0), false);
    return [h('h4', {}, 'Example'), h('div', { class: 'tabs', role: 'tablist', 'aria-label': 'Language' }, tabs),
      h('div', { class: 'sample', 'data-copy': true }, pre, h('span', {}, copyButton(() => text.textContent)))];
  }

  needs(security) {
    const names = security?.flatMap((one) => Object.entries(one)) ?? [];
    if (names.length === 0) return h('span', { class: 'tag' }, 'open to all');
    const [name, scopes] = names[0];
    return h('span', { class: 'tag' }, name === 'apiKey' ? `API key: ${scopes.join(', ')}` : 'user’s token');
  }

  operation(method, path, operation) {
    const id = operation.operationId;
    return h('article', { class: 'card operation', id, 'aria-labelledby': `${id}-title` },
      h('h3', { id: `${id}-title` }, operation.summary),
      h('div', { class: 'route' }, h('span', { class: 'verb' }, method.toUpperCase()), h('code', {}, path), this.needs(operation.security)),
      paragraphs(operation.description),
      this.parameters(operation.parameters), this.body(operation.requestBody), this.samples(operation['x-codeSamples'], id), this.answers(operation.responses));
  }

  render() {
    const { info, tags, paths } = this.description;
    const all = Object.entries(paths).flatMap(([path, item]) => Object.entries(item).map(([method, operation]) => ({ path, method, operation })));
    const groups = tags.map((tag) => ({ tag, operations: all.filter(({ operation }) => operation.tags.includes(tag.name)) }));
    $('contents').replaceChildren(...groups.flatMap(({ tag, operations }) => [
      h('h2', {}, tag.name), h('ul', {}, operations.map(({ operation }) => h('li', {}, h('a', { href: `#${operation.operationId}` }, operation.summary))))]));
    const main = $('main');
    main.replaceChildren(
      h('div', { class: 'intro' }, h('h1', {}, 'API'), paragraphs(info.description),
        h('p', { class: 'dim small' }, `Version ${info.version}. For programs: `, h('a', { href: '/openapi.json' }, 'openapi.json'))),
      ...groups.map(({ tag, operations }) => h('section', { class: 'group', 'aria-labelledby': `tag-${tag.name.replaceAll(' ', '-')}` },
        h('h2', { id: `tag-${tag.name.replaceAll(' ', '-')}` }, tag.name), h('p', {}, tag.description), operations.map(({ method, path, operation }) => this.operation(method, path, operation)))));
    main.removeAttribute('aria-busy');
    if (location.hash) $(location.hash.slice(1))?.scrollIntoView();
  }
}

try {
  const answer = await fetch('/openapi.json');
  if (!answer.ok) throw new Error(`the node answered ${answer.status}`);
  new Page(await answer.json()).render();
} catch (error) {
  $('main').replaceChildren(h('div', { class: 'notice bad', role: 'alert' }, h('p', {}, `The description could not be read: ${error.message}. Reload to try again.`)));
}
