// A description of elements, and the document made to agree with it.
//
// What the server has drawn is adopted node by node, so that the first run changes nothing that is right already.
// Text goes in as text and attributes come from view.js alone: nothing that came over the wire is ever parsed as HTML.

const SVG = 'http://www.w3.org/2000/svg';
const SHAPES = new Set(['svg', 'path', 'rect', 'line', 'title']);

/** An element: `h('p.note', {id: 'x'}, 'text', …)`. Children that are null or false are left out. */
export function h(name, props, ...children) {
  const [tag, ...classes] = name.split('.');
  const attributes = { ...props };
  const { key, roll } = attributes;
  delete attributes.key;
  delete attributes.roll;
  if (classes.length) attributes.class = classes.join(' ');
  if (key) attributes['data-key'] = key;
  return { tag, key, roll, attributes, children: joined(children.flat(2)) };
}

/** Texts side by side are one text, as they are when the server has drawn them. */
function joined(children) {
  const found = [];
  for (const child of children) {
    if (!child) continue;
    if (isText(child) && isText(found.at(-1))) found.push(found.pop() + child);
    else found.push(child);
  }
  return found;
}

// HTML has no such characters: the server writes them so.
const clean = (text) => String(text).replace(/[\0\r]/g, '\ufffd');

const isText = (wanted) => typeof wanted === 'string';

function create(wanted) {
  if (isText(wanted)) return document.createTextNode(clean(wanted));
  return SHAPES.has(wanted.tag) ? document.createElementNS(SVG, wanted.tag) : document.createElement(wanted.tag);
}

function fits(node, wanted) {
  if (isText(wanted)) return node.nodeType === Node.TEXT_NODE;
  return node.nodeType === Node.ELEMENT_NODE && node.localName === wanted.tag
    && (node.dataset.key ?? '') === clean(wanted.key ?? '');
}

function setAttributes(node, wanted) {
  for (const { name } of [...node.attributes]) {
    // Whether a panel is open is the reader's business.
    if (!(name in wanted) && name !== 'open') node.removeAttribute(name);
  }
  for (const [name, value] of Object.entries(wanted)) {
    if (value === null || value === undefined || value === false) node.removeAttribute(name);
    else if (node.getAttribute(name) !== clean(value)) node.setAttribute(name, clean(value));
  }
}

/** Makes the children of `parent` agree with `wanted`. */
export function patch(parent, wanted) {
  let at = parent.firstChild;
  for (const child of wanted) {
    let node = at;
    while (node && !fits(node, child)) node = child.key ? node.nextSibling : null;
    if (!node) {
      node = create(child);
      parent.insertBefore(node, at);
    } else if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
    if (isText(child)) {
      if (node.data !== clean(child)) node.data = clean(child);
    } else {
      setAttributes(node, child.attributes);
      if (child.roll) roll(node, clean(child.children.join('')));
      else patch(node, child.children);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

const still = matchMedia('(prefers-reduced-motion: reduce)');
const rolling = new WeakMap();

/** Lets the part of a number that changed roll in, for less than 300 ms. The text is right from the start. */
function roll(node, text) {
  if (node.textContent === text) return;
  const before = node.textContent;
  rolling.get(node)?.cancel();
  rolling.delete(node);
  node.textContent = text;
  if (!before || still.matches || document.documentElement.classList.contains('paused') || document.hidden) return;
  let same = 0;
  if (before.length === text.length) while (before[same] === text[same]) same += 1;
  const moved = document.createElement('span');
  moved.className = 'roll';
  moved.textContent = text.slice(same);
  node.replaceChildren(text.slice(0, same), moved);
  const motion = moved.animate(
    [{ transform: 'translateY(.22em)', opacity: 0 }, { transform: 'none', opacity: 1 }],
    { duration: 260, easing: 'cubic-bezier(.2,.8,.2,1)' },
  );
  rolling.set(node, motion);
  motion.onfinish = () => {
    rolling.delete(node);
    node.textContent = text;
  };
}
