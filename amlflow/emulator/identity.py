"""The identity platform: the list of clouds, OIDC discovery, client credentials, federated assertions and a managed identity."""

from __future__ import annotations

import hmac
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

from amlflow.emulator.settings import CLOUD_NAME, Principal, Settings
from amlflow.emulator.tokens import BadToken, Tokens, unverified_claims
from amlflow.emulator.web import Answer, Request, Route, ServiceError

ASSERTION_AUDIENCE = "api://AzureADTokenExchange"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFETIME_S = 300


class Identity:
    """`lifetime_s` is how long a token is good for; it may be changed while the emulator runs."""

    def __init__(self, settings: Settings, tokens: Tokens, lifetime_s: int) -> None:
        self._settings, self._tokens, self.lifetime_s = settings, tokens, lifetime_s

    @property
    def settings(self) -> Settings:
        return self._settings

    def issue(self, principal: Principal, lifetime_s: int) -> str:
        """A token for the workspace's own address, such as a job is given."""
        return self._tokens.issue(principal, self._settings.base_url, lifetime_s)

    def managed(self, principal: Principal, resource: str) -> dict[str, Any]:
        """A token for the resource, as managed identities are given it. Raises the service's refusal of one that is not known."""
        audience, lifetime = self._audience(resource), self.lifetime_s
        return {
            "access_token": self._tokens.issue(principal, audience, lifetime),
            "expires_in": str(lifetime),
            "expires_on": str(int(time.time()) + lifetime),
            "resource": audience,
            "token_type": "Bearer",
            "client_id": principal.client_id,
        }

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/metadata/endpoints", self._clouds, "open"),
            Route("GET", "/common/discovery/instance", self._instance, "open"),
            Route("GET", "/{tenant}/v2.0/.well-known/openid-configuration", self._discovery, "open"),
            Route("GET", "/{tenant}/.well-known/openid-configuration", self._discovery, "open"),
            Route("GET", "/{tenant}/discovery/v2.0/keys", self._keys, "open"),
            Route("POST", "/{tenant}/oauth2/v2.0/token", self._token, "open"),
            Route("POST", "/{tenant}/oauth2/token", self._token, "open"),
            Route("GET", "/msi/token", self._managed, "open"),
            Route("GET", "/oidc/token", self._pipeline_assertion, "open"),
        ]

    def _clouds(self, request: Request) -> Answer:
        base = request.base_url
        return Answer(
            content=[
                {
                    "name": CLOUD_NAME,
                    # azure-ai-ml takes what follows the second dot for the domain of `ml.azure.`, to ask for tokens of.
                    "portal": "https://portal.azure.com",
                    "resourceManager": base,
                    "authentication": {
                        "loginEndpoint": base,
                        "audiences": [f"{base}/", *(f"{item}/" for item in self._tokens.audiences("arm")[1:])],
                        "tenant": "common",
                        "identityProvider": "AAD",
                    },
                    "suffixes": {
                        "storage": self._settings.storage_suffix,
                        "containerInstance": self._settings.container_suffix,
                    },
                }
            ]
        )

    def _instance(self, request: Request) -> Answer:
        host = urlsplit(request.base_url).netloc
        return Answer(
            content={
                "tenant_discovery_endpoint": f"{request.base_url}/{self._settings.tenant}/v2.0/.well-known/openid-configuration",
                "api-version": "1.1",
                "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
            }
        )

    def _discovery(self, request: Request) -> Answer:
        self._check_tenant(request)
        root = f"{request.base_url}/{self._settings.tenant}"
        return Answer(
            content={
                "token_endpoint": f"{root}/oauth2/v2.0/token",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "jwks_uri": f"{root}/discovery/v2.0/keys",
                "response_modes_supported": ["query"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "response_types_supported": ["code"],
                "scopes_supported": ["openid"],
                "issuer": f"{root}/v2.0",
                "authorization_endpoint": f"{root}/oauth2/v2.0/authorize",
                "device_authorization_endpoint": f"{root}/oauth2/v2.0/devicecode",
                "tenant_region_scope": None,
                "cloud_instance_name": urlsplit(request.base_url).netloc,
            }
        )

    def _keys(self, _: Request) -> Answer:
        return Answer(content=self._tokens.keys())

    def _token(self, request: Request) -> Answer:
        self._check_tenant(request)
        form = request.form()
        if form.get("grant_type") != "client_credentials":
            raise _refusal(
                400,
                "unsupported_grant_type",
                70003,
                f"The app requested an unsupported grant type '{form.get('grant_type')}'.",
            )
        principal = self._settings.principal(form.get("client_id", ""))
        if principal is None:
            text = (
                f"Application with identifier '{form.get('client_id', '')}' was not found in the directory "
                f"'{self._settings.tenant}'. This can happen if the application has not been installed by the administrator of "
                "the tenant or consented to by any user in the tenant."
            )
            raise _refusal(400, "unauthorized_client", 700016, text)
        if "client_assertion" in form:
            self._check_assertion(form, principal)
        elif not hmac.compare_digest(form.get("client_secret", "").encode(), principal.secret.encode()):
            text = (
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the "
                f"client secret ID, for a secret added to app '{principal.client_id}'."
            )
            raise _refusal(401, "invalid_client", 7000215, text)
        audience = self._audience(form.get("scope", "").removesuffix(".default") or form.get("resource", ""))
        lifetime = self.lifetime_s
        return Answer(
            content={
                "token_type": "Bearer",
                "expires_in": lifetime,
                "ext_expires_in": lifetime,
                "access_token": self._tokens.issue(principal, audience, lifetime),
            },
            headers={"cache-control": "no-store, no-cache"},
        )

    def _managed(self, request: Request) -> Answer:
        """The managed identity of App Service, which azure-identity uses where IDENTITY_ENDPOINT is set."""
        given = request.headers.get("x-identity-header", "")
        if not hmac.compare_digest(given.encode(), self._settings.identity_header.encode()):
            return Answer(401, {"statusCode": 401, "message": "The X-IDENTITY-HEADER is not the one of this machine."})
        wanted = request.query.get("client_id", "")
        principal = self._settings.principal(wanted) if wanted else self._settings.principals[0]
        if principal is None:
            return Answer(
                400,
                {"statusCode": 400, "message": f"No User Assigned or Delegated Managed Identity found for {wanted}."},
            )
        return Answer(content=self.managed(principal, request.query.get("resource", "")))

    def _pipeline_assertion(self, request: Request) -> Answer:
        """What a CI runner hands to its jobs: an assertion in the name of the pipeline, as GitHub's ACTIONS_ID_TOKEN_REQUEST_URL
        does."""
        given = request.headers.get("authorization", "").partition(" ")[2]
        if not hmac.compare_digest(given.encode(), self._settings.identity_header.encode()):
            return Answer(401, {"message": "The request token is not valid."})
        now = int(time.time())
        claims = {
            "iss": f"{request.base_url}/oidc",
            "sub": "repo:amlflow/emulator:ref:refs/heads/main",
            "aud": request.query.get("audience", ASSERTION_AUDIENCE),
            "iat": now,
            "nbf": now,
            "exp": now + _ASSERTION_LIFETIME_S,
        }
        return Answer(content={"value": self._tokens.sign(claims)})

    def _check_assertion(self, form: dict[str, str], principal: Principal) -> None:
        """Own assertions are verified; of a foreign issuer's, whose keys are out of reach, form, time and audience."""
        if form.get("client_assertion_type") != _ASSERTION_TYPE:
            raise _refusal(
                400, "invalid_request", 900144, "The request body must contain the parameter 'client_assertion_type'."
            )
        try:
            claims = unverified_claims(form["client_assertion"])
            if str(claims.get("iss", "")).startswith(self._settings.base_url):
                claims = self._tokens.claims(form["client_assertion"])
        except BadToken as error:
            raise _refusal(401, "invalid_client", 50027, f"JWT token is invalid or malformed: {error}.") from error
        if not float(claims.get("nbf", 0)) - 300 <= time.time() < float(claims.get("exp", 0)):
            text = (
                "Client assertion is not within its valid time range. Current time: "
                f"{time.time():.0f}, expiry time of assertion {claims.get('exp', 0)}."
            )
            raise _refusal(401, "invalid_client", 700024, text)
        if claims.get("aud") != ASSERTION_AUDIENCE:
            text = (
                f"No matching federated identity record found for presented assertion audience '{claims.get('aud')}'."
            )
            raise _refusal(401, "invalid_client", 700212, text)
        if not claims.get("sub") or not claims.get("iss"):
            text = f"No matching federated identity record found for presented assertion subject '{claims.get('sub', '')}'."
            raise _refusal(401, "invalid_client", 700213, text)

    def _audience(self, resource: str) -> str:
        wanted = resource.rstrip("/")
        known = {item for kind in ("data", "storage") for item in self._tokens.audiences(kind)}
        if wanted not in known:
            text = (
                f"The resource principal named {resource} was not found in the tenant named {self._settings.tenant}. This can "
                "happen if the application has not been installed by the administrator of the tenant."
            )
            raise _refusal(400, "invalid_resource", 500011, text)
        return wanted

    def _check_tenant(self, request: Request) -> None:
        if request.values["tenant"].lower() not in (self._settings.tenant, "common", "organizations"):
            text = (
                f"Tenant '{request.values['tenant']}' not found. Check to make sure you have the correct tenant ID and are "
                "signing into the correct cloud."
            )
            raise _refusal(400, "invalid_request", 90002, text)


def _refusal(status: int, error: str, code: int, text: str) -> ServiceError:
    trace, moment = str(uuid.uuid4()), time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
    content: dict[str, Any] = {
        "error": error,
        "error_description": f"AADSTS{code}: {text} Trace ID: {trace} Timestamp: {moment}",
        "error_codes": [code],
        "timestamp": moment,
        "trace_id": trace,
        "correlation_id": str(uuid.uuid4()),
        "error_uri": f"https://login.microsoftonline.com/error?code={code}",
    }
    return ServiceError(Answer(status, content))
