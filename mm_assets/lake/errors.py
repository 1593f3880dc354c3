"""What storage libraries say, in words of ours: what was wrong, where, and what fits the cause."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mm_assets.contract.errors import LakeError

# Each code: what a person does about it.
TODO = {
    "lake_not_found": "Check MM_LAKE, and that the upload was not deleted.",
    "lake_key": "Rename it: no empty parts, no '.' or '..', no control characters.",
    "lake_no_bucket": "Create the bucket, or correct its name in MM_LAKE (and AWS_ENDPOINT_URL).",
    "lake_region": "Set AWS_REGION to the region of the bucket; check AWS_ENDPOINT_URL, if set.",
    "lake_credentials": "Renew the credentials (log in again, or set AWS_ACCESS_KEY_ID, "
    "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN anew), then run the same command again.",
    "lake_no_credentials": "Set AWS credentials in any way that boto3 understands.",
    "lake_clock": "Set this machine's clock; S3 refuses requests that are 15 minutes off.",
    "lake_denied": "Give these credentials the permissions to list, read, write and delete "
    "objects there (s3:ListBucket, GetObject, PutObject, DeleteObject).",
    "lake_full": "Free some space there or raise the limit, then run the same command again.",
    "lake_unreachable": "Wait a moment and run the same command again; it goes on where it "
    "stopped. If that does not help, check AWS_ENDPOINT_URL and the network, and run `mm doctor`.",
    "lake_damaged": "Run it again. If it says so again, what is stored was changed or damaged: "
    "materialise what wrote it once more.",
    "disk_full": "Free some space there, or set TMPDIR to a folder on a larger disk, then run the "
    "same command again.",
}
_FOLDER_TODO = {
    "lake_denied": "Give this user the right to read and write there, or correct MM_LAKE.",
    "lake_unreachable": "Check MM_LAKE: it must name a folder that can be made and written.",
}

_BY_S3_CODE = {
    "lake_no_bucket": ("NoSuchBucket",),
    "lake_region": (
        "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException", "301", "307",
    ),
    "lake_credentials": (
        "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken",
        "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId", "InvalidSecurity",
        "UnrecognizedClientException", "NotSignedUp", "401", "Unauthorized",
    ),
    "lake_clock": ("RequestTimeTooSkewed", "RequestExpired"),
    "lake_full": ("XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "507"),
    "lake_denied": (
        "AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidObjectState",
        "KMS.DisabledException", "403", "Forbidden",
    ),
    "lake_not_found": ("NoSuchKey", "NotFound", "404"),
}  # fmt: skip
_CODE_OF = {name: code for code, names in _BY_S3_CODE.items() for name in names}
_BY_ERRNO = {
    errno.ENOSPC: "lake_full",
    errno.EDQUOT: "lake_full",
    errno.EFBIG: "lake_full",
    errno.EACCES: "lake_denied",
    errno.EPERM: "lake_denied",
    errno.EROFS: "lake_denied",
    errno.ENOENT: "lake_not_found",
}
FULL = {number for number, code in _BY_ERRNO.items() if code == "lake_full"}
REDIRECTS = "the store redirects: the bucket is in another region, or not behind this endpoint"


def lake_error(code: str, what: str, where: str, *, folder: bool = False) -> LakeError:
    """A LakeError with the remedy that fits its code."""
    todo = _FOLDER_TODO.get(code, TODO[code]) if folder else TODO[code]
    return LakeError(code=code, what=what, where=where, todo=todo)


def no_credentials() -> LakeError:
    """There are none anywhere that boto3 looks."""
    where = "AWS_PROFILE, AWS_ACCESS_KEY_ID, an instance role …"
    return lake_error("lake_no_credentials", "no AWS credentials were found", where)


@contextmanager
def speaking(place: Callable[[], str], *, folder: bool) -> Iterator[None]:
    """Turn whatever a storage library raises into a LakeError about a place.

    place: it in words, asked for when there is an error: a small upload speaks of 100 places.

    obstore's AlreadyExistsError passes: it is an answer, not a fault.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from obstore.exceptions import AlreadyExistsError, BaseError

    try:
        yield
    except AlreadyExistsError:
        raise
    except ClientError as error:
        told = error.response["Error"]
        code = _CODE_OF.get(str(told["Code"]), "lake_unreachable")
        raise lake_error(code, _said(told["Code"], told.get("Message")), place()) from error
    except BotoCoreError as error:
        raise _of_botocore(error, place()) from error
    except (BaseError, FileNotFoundError, PermissionError) as error:
        raise _of_text(error, place(), folder=folder) from error
    except OSError as error:
        raise _of_os(error, place(), folder=folder) from error
    except RecursionError as error:  # botocore, of a server that redirects without saying where
        raise lake_error("lake_region", REDIRECTS, place()) from error
    except ValueError as error:  # obstore, of a key such as `a//b` or `a/../b`
        what = f"no key that can be read or written: {str(error)[:200]}"
        raise lake_error("lake_key", what, ascii(place())) from error


def _said(code: str | None, message: str | None) -> str:
    words = f"{code}: {message}" if message and message != "Unknown" else str(code)
    return f"the store says {words[:300]}"


def _of_botocore(error: Exception, where: str) -> LakeError:
    from botocore import exceptions as known

    missing = (
        known.PartialCredentialsError, known.CredentialRetrievalError, known.TokenRetrievalError,
        known.UnauthorizedSSOTokenError, known.SSOTokenLoadError,
        known.ProfileNotFound, known.RefreshWithMFAUnsupportedError,
    )  # fmt: skip
    if isinstance(error, known.NoCredentialsError):
        return no_credentials()
    code = "lake_credentials" if isinstance(error, missing) else "lake_unreachable"
    return lake_error(code, _first_line(error), where)


def _of_os(error: OSError, where: str, *, folder: bool) -> LakeError:
    if folder and error.errno in (errno.EEXIST, errno.ENOTDIR):
        what = f"a file is in the way of a folder: {error.filename or where}"
        return lake_error("lake_unreachable", what, where, folder=True)
    code = _BY_ERRNO.get(error.errno or 0, "lake_unreachable")
    what = error.strerror or _first_line(error)
    at = f": {error.filename}" if error.filename and str(error.filename) not in where else ""
    return lake_error(code, what + at, where, folder=folder)


def _of_text(error: Exception, where: str, *, folder: bool) -> LakeError:
    """An error of obstore: all it has is text, with the server's answer or the system's in it."""
    text = str(error)
    if folder:
        if number := re.search(r"\(os error (\d+)\)", text):
            said = OSError(int(number[1]), os.strerror(int(number[1])))
            return _of_os(said, where, folder=True)
        if isinstance(error, OSError) and error.errno:
            return _of_os(error, where, folder=True)
    elif xml := re.search(r"<Code>\s*([\w.]+)\s*</Code>", text):
        message = re.search(r"<Message>([^<]*)</Message>", text)
        code = _CODE_OF.get(xml[1], "lake_unreachable")
        if code == "lake_not_found":
            return lake_error(code, "nothing is stored here", where)
        return lake_error(code, _said(xml[1], message[1] if message else None), where)
    elif "redirect without LOCATION" in text:
        return lake_error("lake_region", REDIRECTS, where)
    if isinstance(error, FileNotFoundError):
        return lake_error("lake_not_found", "nothing is stored here", where, folder=folder)
    if status := re.search(r"status code: (\d{3})", text):
        return lake_error(
            _CODE_OF.get(status[1], "lake_unreachable"), f"the store answers {status[1]}", where
        )
    if isinstance(error, PermissionError) or type(error).__name__ == "PermissionDeniedError":
        return lake_error("lake_denied", _first_line(error), where, folder=folder)
    return lake_error("lake_unreachable", _first_line(error), where, folder=folder)


def broke_off(error: LakeError) -> bool:
    """Whether it is obstore's, of an answer that was cut off before its end."""
    return error.code == "lake_unreachable" and "response body error" in str(error.__cause__)


def _first_line(error: Exception) -> str:
    """What a library says, without obstore's account of its retries but with its root cause."""
    text = str(error)
    line = text.partition("\n")[0].removeprefix("Generic S3 error: ")
    line = re.sub(r" in [\d.]+[mµn]?s(, after .*?retry_timeout: \S+)?\s+- ", ": ", line)
    cause = re.search(r'message: "([^"]+)"', text) or re.search(r"\b(TimedOut)\b", text)
    line = f"{line} ({cause[1]})" if cause and cause[1] not in line else line
    return line[:300] or type(error).__name__
