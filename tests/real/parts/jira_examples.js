// Prepares Atlassian's OpenAPI description for prism: examples that are JSON in strings become JSON, and links to the
// example's domain lead to BASE. usage: jira_examples.js DESCRIPTION BASE > PREPARED
const [description, base] = process.argv.slice(2);
const text = require('fs').readFileSync(description, 'utf8').replaceAll('https://your-domain.atlassian.net', base);

const api = JSON.parse(text, (key, value) => {
  if (key !== 'example' || typeof value !== 'string') return value;
  try {
    return JSON.parse(value);
  } catch {
    return value; // a plain word
  }
});
// The mock itself is asked without the prefix.
api.servers = [{ url: '/' }];
process.stdout.write(JSON.stringify(api));
