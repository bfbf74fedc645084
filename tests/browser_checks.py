"""Scripts that measure a page in a browser: contrast and size of its texts, and its layout."""

CONTRAST = """() => {
  const luminance = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const parse = colour => { const v = colour.match(/[\\d.]+/g).map(Number); return v.length < 4 ? [...v, 1] : v; };
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3]));
  const ground = node => !node ? [255, 255, 255]
    : over(parse(getComputedStyle(node).backgroundColor), ground(node.parentElement));
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement, style = getComputedStyle(node);
    if (!walker.currentNode.data.trim() || node.closest('.sr, style')) continue;
    const a = luminance(parse(node.closest('svg') ? style.fill : style.color)), b = luminance(ground(node));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([ratio, parseFloat(style.fontSize), walker.currentNode.data.trim().slice(0, 40), node.className]);
  }
  return found;
}"""

LAYOUT = """() => {
  const width = document.documentElement.clientWidth;
  const outside = [...document.querySelectorAll('body *')].filter(node => {
    const box = node.getBoundingClientRect();
    return !node.closest('.scroll, .sr') && box.width && (box.right > width + 1 || box.left < -1);
  }).map(node => node.tagName + '.' + node.className.toString() + ' ' + node.textContent.trim().slice(0, 40));
  const images = [...document.images].filter(image => !image.naturalWidth || !image.alt || image.width < 24);
  return { outside, images: images.length, scroll: document.documentElement.scrollWidth - width,
           headings: [...document.querySelectorAll('h1, h2, h3')].map(node => +node.tagName[1]) };
}"""
