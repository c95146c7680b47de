// In a packaged app, in place of node-gyp-build, with which the package of SQLite finds its addon.
const { join } = require("node:path");

/** @returns {unknown} */
module.exports = () => require(join(__dirname, "..", "native", "sqlite.node"));
