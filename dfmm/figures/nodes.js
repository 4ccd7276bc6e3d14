// What all widgets draw with: an element, and one of a drawing. Names and words become text, never HTML.

const SVG = "http://www.w3.org/2000/svg";

function make(tag, name, parent, words) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (words !== undefined) node.textContent = words;
  if (parent) parent.append(node);
  return node;
}

function draw(tag, parent, attributes, words) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (words !== undefined) node.textContent = words;
  parent.append(node);
  return node;
}

