// Loaded before Azurite: a request that carries a token is held until the emulator has said whether its principal has a role.
"use strict";

const fs = require("fs");
const https = require("https");

const asked = new URL(process.env.AMLFLOW_STORAGE_ACCESS);
const key = process.env.AMLFLOW_STORAGE_ACCESS_KEY;
const ca = fs.readFileSync(process.env.AMLFLOW_STORAGE_ACCESS_CA);
const REASONS = {
  InvalidAuthenticationInfo: "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.",
  AuthorizationPermissionMismatch: "This request is not authorized to perform this operation using this permission.",
  InvalidUri: "The requested URI does not represent any resource on the server.",
  InternalError: "The emulator did not say whether this request is authorized.",
};

function decoded(url) {
  try {
    return decodeURIComponent(url.split("?")[0]);
  } catch {
    return null;
  }
}

function verdict(answer, text) {
  if (answer.statusCode === 204) {
    return [204, ""];
  }
  try {
    return [answer.statusCode, JSON.parse(text).code || "InternalError"];
  } catch {
    return [500, "InternalError"];
  }
}

function allowed(request) {
  const path = decoded(request.url);
  if (path === null) {
    return Promise.resolve([400, "InvalidUri"]);
  }
  const body = JSON.stringify({ token: request.headers.authorization.slice(7).trim(), method: request.method, path });
  const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body), "x-amlflow-control": key };
  return new Promise((settle) => {
    const question = https.request(asked, { method: "POST", headers, ca }, (answer) => {
      let text = "";
      answer.on("data", (part) => (text += part));
      answer.on("close", () => settle(verdict(answer, text)));
    });
    question.on("error", () => settle([500, "InternalError"]));
    question.end(body);
  });
}

function refuse(response, status, code) {
  const headers = { "content-type": "application/xml", "x-ms-error-code": code };
  if (status === 401) {
    headers["www-authenticate"] = "Bearer resource_id=https://storage.azure.com";
  }
  response.writeHead(status, headers);
  response.end(`<?xml version="1.0" encoding="utf-8"?><Error><Code>${code}</Code><Message>${REASONS[code] || code}</Message></Error>`);
}

const emit = https.Server.prototype.emit;
https.Server.prototype.emit = function (event, request, response) {
  const authorization = event === "request" ? request.headers.authorization || "" : "";
  if (!authorization.toLowerCase().startsWith("bearer ")) {
    return emit.apply(this, arguments);
  }
  allowed(request).then(([status, code]) => {
    if (status === 204) {
      emit.call(this, event, request, response);
    } else {
      request.resume();
      refuse(response, status, code);
    }
  });
  return true;
};
